from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

import pytest

import verifiers
from tests.verifiers import sample_checks
from verifiers import registry

CHECKS = sample_checks.__name__


@pytest.fixture(autouse=True)
def _same_registry_afterwards() -> Iterator[None]:
    for name in registry.VERIFIERS.builtin_names():
        verifiers.get(name)  # their modules register them once, and not again after a test
    before = dict(registry.VERIFIERS.items)
    yield
    registry.VERIFIERS.items.clear()
    registry.VERIFIERS.items.update(before)


def test_a_decorated_function_is_a_verifier_and_stays_a_function() -> None:
    @verifiers.register("palindrome", version="2")
    def palindrome(completion: str, reference: str, *, ignore_case: bool = True) -> bool:
        """The completion reads the same backwards."""
        text = completion.lower() if ignore_case else completion
        return text == text[::-1]

    assert palindrome("abba", "")
    check = verifiers.get("palindrome")
    assert (check.summary, dict(check.options)) == (
        "The completion reads the same backwards.",
        {"ignore_case": True},
    )
    verdict = verifiers.verify("palindrome", "Abba", "", ignore_case=False)
    assert (verdict.status, verdict.reason, verdict.score) == ("incorrect", "mismatch", 0.0)
    assert (verdict.verifier, verdict.version) == ("palindrome", "2")


def test_an_unknown_name_lists_the_valid_ones_and_guesses() -> None:
    with pytest.raises(
        verifiers.UnknownVerifier, match=r"'maht'.*did you mean 'math'.*choice, .*exact,.* math, numeric"
    ):
        verifiers.get("maht")


def test_a_misspelt_option_lists_the_valid_ones_and_guesses() -> None:
    with pytest.raises(verifiers.UnknownOption, match=r"'rel_tool'.*did you mean 'rel_tol'.*abs_tol=0\.0"):
        verifiers.verify_iter("numeric", [], rel_tool=0.1)


@pytest.mark.parametrize(("option", "value"), [("rel_tol", "0.1"), ("rel_tol", True), ("fallback", 3)])
def test_an_option_of_the_wrong_type_fails(option: str, value: Any) -> None:
    with pytest.raises(verifiers.UnknownOption, match=f"'{option}'.*must be"):
        verifiers.Pool("numeric", **{option: value})


def test_a_required_option_must_be_given() -> None:
    @verifiers.register("needs")
    def needs(completion: str, reference: str, *, level: int) -> bool:
        return True

    with pytest.raises(verifiers.UnknownOption, match="needs the option 'level'"):
        verifiers.verify("needs", "", "")


def test_a_taken_name_is_refused_unless_replaced() -> None:
    def other(completion: str, reference: str) -> bool:
        return True

    with pytest.raises(verifiers.VerifierError, match=r"'math' is taken by verifiers\.checks\.math:math"):
        verifiers.register("math")(other)
    verifiers.register("math", replace=True)(other)
    assert verifiers.verify("math", "1", "2").is_correct


def test_a_cell_run_twice_registers_again() -> None:
    for _ in range(2):

        @verifiers.register("cell")
        def cell(completion: str, reference: str) -> bool:
            return True


def test_a_function_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(verifiers.VerifierError, match="must be a function"):
        verifiers.register("bad")(lambda completion: True)
    with pytest.raises(verifiers.VerifierError, match="option called timeout"):
        verifiers.register("bad")(lambda completion, reference, *, timeout=1: True)


def test_a_path_names_a_verifier() -> None:
    assert verifiers.verify(f"{CHECKS}:obey", "a", "a").verifier == f"{CHECKS}:obey"


def test_a_decorated_function_keeps_its_facts_under_its_path() -> None:
    check = verifiers.get(f"{CHECKS}:length")
    assert (check.version, check.threshold, check.timeout) == ("7", 0.5, 9.0)


@pytest.mark.parametrize(
    ("path", "message"),
    [("no_such_pkg.mod:f", "no module named 'no_such_pkg'"), (f"{CHECKS}:obay", "did you mean 'obey'")],
)
def test_a_wrong_path_says_what_is_wrong(path: str, message: str) -> None:
    with pytest.raises(verifiers.UnknownVerifier, match=message):
        verifiers.get(path)


def test_an_entry_point_of_another_package_is_a_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("theirs", f"{CHECKS}:obey", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry.VERIFIERS, "entry_points", lambda: {"theirs": point})
    assert "theirs" in verifiers.names()
    assert [v.is_correct for v in verifiers.verify_many("theirs", [("a", "a"), ("a", "b")], workers=1)] == [True, False]


def test_scores_pass_a_threshold() -> None:
    low, high = (verifiers.verify("length", text, 4.0) for text in ("a", "abcd"))
    assert (low.status, low.reason, low.score) == ("incorrect", "below_threshold", 0.25)
    assert (high.status, high.reason, high.score) == ("correct", "match", 1.0)


def test_a_score_without_threshold_is_correct() -> None:
    assert verifiers.verify(f"{CHECKS}:nonsense", "one", None).score == 1.0


@pytest.mark.parametrize("completion", ["nan", "text", "none"])
def test_a_check_that_returns_nonsense_is_a_fault(completion: str) -> None:
    verdict = verifiers.verify(f"{CHECKS}:nonsense", completion, None)
    assert (verdict.status, verdict.reason, verdict.score) == ("unknown", "fault", None)


def test_an_unknown_verdict_never_carries_a_score() -> None:
    verdict = verifiers.verify(f"{CHECKS}:own_verdict", "", None)
    assert (verdict.status, verdict.score, verdict.verifier) == ("unknown", None, f"{CHECKS}:own_verdict")
    assert verdict.answer is not None
    assert len(verdict.answer) == 500


def test_every_built_in_has_a_line_and_an_example_that_holds() -> None:
    for name in registry.VERIFIERS.builtin_names():
        check = verifiers.get(name)
        assert check.summary
        assert check.example
        assert verifiers.verify(
            name, check.example.completion, check.example.reference, **check.example.options
        ).is_correct
        check = check.bound(check.example.options)
        assert check.example
        assert check.reference_problem
        assert check.reference_problem(check.example.reference) is None
        assert check.reference_problem(["no", "reference"]) is not None


def test_sample_checks_are_importable_by_workers() -> None:
    assert registry.importable_path(verifiers.get("length")) == f"{CHECKS}:length"
    assert sample_checks.length is verifiers.get("length").function
