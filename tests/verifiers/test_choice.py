from __future__ import annotations

import pytest

import verifiers

OPTIONS = {"answer": "B", "options": {"A": "dry desert", "B": "ocean", "C": "bank"}}


def judge(completion: str, reference: object) -> tuple[str, str]:
    verdict = verifiers.verify("choice", completion, reference)
    return verdict.status, verdict.reason


@pytest.mark.parametrize(
    "completion",
    ["The answer is (B).", "B", "b", "(B)", "#### B", r"\boxed{\text{B}}", r"\boxed{\text{(B) } ocean}", "A: B",
     "The correct option is B", "A is wrong, so the answer is B.", "<answer>B</answer>", "The answer is option B."],
)  # fmt: skip
def test_the_letter_decides(completion: str) -> None:
    assert judge(completion, "B") == ("correct", "match")
    assert judge(completion, "C") == ("incorrect", "mismatch")


@pytest.mark.parametrize("completion", ["The answer is ocean.", "The answer is the ocean.", "Ocean"])
def test_the_text_of_an_option_counts_where_options_are_given(completion: str) -> None:
    assert judge(completion, OPTIONS) == ("correct", "match")


@pytest.mark.parametrize("completion", ["The answer is A or B.", r"\boxed{A, B}", "The answer is either A or B"])
def test_two_letters_are_no_choice(completion: str) -> None:
    assert judge(completion, "B") == ("incorrect", "ambiguous")


def test_no_letter_is_no_answer() -> None:
    assert judge("I like fish.", OPTIONS) == ("incorrect", "no_answer")
    assert judge("", "A") == ("incorrect", "no_answer")


@pytest.mark.parametrize("reference", ["", "maybe", 3, {"answer": "Z", "options": {"A": "x"}}, {}])
def test_a_bad_reference_is_unknown(reference: object) -> None:
    assert judge("A", reference) == ("unknown", "bad_reference")
