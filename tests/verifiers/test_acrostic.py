"""The test of docs/verifiers.md's example."""

from __future__ import annotations

import pytest

import verifiers
from tests.verifiers import acrostic  # noqa: F401  # registers the verifier

POEM = "Dogs bark\nOver the\nGates"


@pytest.mark.parametrize(
    ("completion", "reference", "status", "reason"),
    [
        (POEM, "dog", "correct", "match"),
        (POEM, "cat", "incorrect", "mismatch"),
        ("", "dog", "incorrect", "no_answer"),
        (POEM, "", "unknown", "bad_reference"),
    ],
)
def test_the_first_letters_decide(completion: str, reference: str, status: str, reason: str) -> None:
    (verdict,) = verifiers.verify_many("acrostic", [(completion, reference)], workers=1)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_case_counts_only_when_asked() -> None:
    assert verifiers.verify("acrostic", POEM, "dog").is_correct
    assert not verifiers.verify("acrostic", POEM, "dog", ignore_case=False).is_correct
