from __future__ import annotations

import json
from fractions import Fraction

import pytest

import verifiers
from tests.shared_data import shared
from verifiers.math.latex import clean
from verifiers.math.numbers import parse_numeral


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-5", -5),
        ("\u22125", -5),
        ("\uff11\uff12", 12),
        ("1,234", 1234),
        ("1{,}234", 1234),
        ("1 000", 1000),
        (".5", Fraction(1, 2)),
        ("18.50", Fraction(37, 2)),
        ("$18.50", Fraction(37, 2)),
        (r"\$1{,}800.00", 1800),
        ("50%", Fraction(1, 2)),
        ("28 pct", Fraction(7, 25)),
        ("3/4", Fraction(3, 4)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"\dfrac12", Fraction(1, 2)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        (r"2\frac{2}{5}", Fraction(12, 5)),
        ("\u00bd", Fraction(1, 2)),
        ("1\u00bd", Fraction(3, 2)),
        ("1e3", 1000),
        (r"1.2 \times 10^{-3}", Fraction(3, 2500)),
        ("2 million", 2_000_000),
        ("twenty-one", 21),
        ("18 dollars", 18),
        ("230kg", 230),
        (r"5\text{ m}", 5),
        (r"15\text{ cm}^2", 15),
        (r"120^\circ", 120),
        ("10 miles per hour", 10),
        ("3 (1 white, 2 blue)", 3),
    ],
)
def test_a_numeral_is_read_exactly(text: str, value: Fraction | int) -> None:
    numeral = parse_numeral(clean(text))
    assert numeral is not None
    assert numeral.value == value


@pytest.mark.parametrize(
    "text", ["", "x", "3x", "4t", "5i", r"5\pi", "5 or 6", "1,2,3", "1/0", "5 not", "2^3", "1e99999", "9" * 5000]
)
def test_what_is_no_plain_numeral_is_none(text: str) -> None:
    assert parse_numeral(clean(text)) is None


def judge(completion: str, reference: object, **options: object) -> tuple[str, str]:
    verdict = verifiers.verify("numeric", completion, reference, **options)
    return verdict.status, verdict.reason


def test_money_with_cents_equals_the_bare_number() -> None:
    assert judge("#### $29.00", "29") == ("correct", "match")


def test_run_on_text_after_a_right_answer_changes_nothing() -> None:
    assert judge("#### 29\n\nQuestion: Tom has 5 pears.\nAnswer: 5\n#### 5", "29") == ("correct", "match")


@pytest.mark.parametrize("reference", ["18", 18, 18.0, "... 9*2=<<9*2=18>>18\n#### 18", "$18", "18 eggs"])
def test_references_come_in_many_forms(reference: object) -> None:
    assert judge("#### 18", reference) == ("correct", "match")
    assert judge("#### 19", reference) == ("incorrect", "mismatch")


@pytest.mark.parametrize("reference", ["", "no number", None, True, ["18"], "#### "])
def test_a_reference_without_a_number_is_a_bad_reference(reference: object) -> None:
    assert judge("#### 18", reference) == ("unknown", "bad_reference")


def test_without_a_number_there_is_no_answer() -> None:
    assert judge("I do not know.", "18") == ("incorrect", "no_answer")
    assert judge("The answer is blue.", "18") == ("incorrect", "no_answer")


def test_tolerances_are_off_by_default_and_work() -> None:
    assert judge("#### 3.14", "3.14159") == ("incorrect", "mismatch")
    assert judge("#### 3.14", "3.14159", rel_tol=0.001) == ("correct", "match")
    assert judge("#### 3.14", "3.14159", abs_tol=0.01) == ("correct", "match")
    assert judge("#### 3.2", "3.14159", abs_tol=0.01) == ("incorrect", "mismatch")


def test_a_percent_equals_its_value_or_the_bare_number() -> None:
    assert judge("#### 50", "50%") == judge("#### 50%", "50") == judge("#### 0.5", "50%") == ("correct", "match")
    assert judge("#### 0.5", "50") == ("incorrect", "mismatch")


def test_units_matter_only_where_both_are_stated() -> None:
    assert judge("#### 5 cm", "5") == judge("#### 5", "5 cm") == ("correct", "match")
    assert judge("#### 5 cm", "5 kg") == ("incorrect", "mismatch")


def test_every_gsm8k_solution_is_its_own_reference() -> None:
    lines = shared("gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    verdicts = [verifiers.verify("numeric", answer, answer) for answer in answers]
    assert all(v.is_correct for v in verdicts)


def test_a_relative_tolerance_allows_nothing_around_zero() -> None:
    assert judge("#### 0.001", "0", rel_tol=0.5) == ("incorrect", "mismatch")
    assert judge("#### 0.001", "0", abs_tol=0.01) == ("correct", "match")
    assert judge("#### 0", "0", rel_tol=0.5) == ("correct", "match")


def test_a_relative_tolerance_is_a_share_of_the_reference() -> None:
    assert judge("#### 125", "100", rel_tol=0.25) == judge("#### 75", "100", rel_tol=0.25) == ("correct", "match")
    assert judge("#### 130", "100", rel_tol=0.25) == ("incorrect", "mismatch")


def test_a_tolerance_is_exact_at_its_edge_and_works_on_both_sides() -> None:
    assert judge("#### 10.5", "10", abs_tol=0.5) == judge("#### 9.5", "10", abs_tol=0.5) == ("correct", "match")
    assert judge("#### 10.5000001", "10", abs_tol=0.5) == ("incorrect", "mismatch")
    assert judge("#### -105", "-100", rel_tol=0.0625) == ("correct", "match")
    assert judge("#### 105", "-100", rel_tol=0.0625) == ("incorrect", "mismatch")


def test_a_tolerance_does_not_forgive_a_wrong_unit() -> None:
    assert judge("#### 5 kg", "5 cm", abs_tol=1.0) == ("incorrect", "mismatch")


@pytest.mark.parametrize(
    "options",
    [{"rel_tol": -0.1}, {"abs_tol": -1.0}, {"abs_tol": float("nan")}, {"rel_tol": float("inf")}, {"fallback": "all"}],
)
def test_a_tolerance_or_fallback_that_is_none_fails_at_once(options: dict[str, object]) -> None:
    with pytest.raises(verifiers.UnknownOption, match=f"'{next(iter(options))}' must be"):
        verifiers.Pool("numeric", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "Infinity"])
def test_what_is_no_finite_number_is_no_number(text: str) -> None:
    assert judge(f"#### {text}", "5", abs_tol=1e9) == ("incorrect", "no_answer")
    assert judge("#### 5", float(text), abs_tol=1e9) == ("unknown", "bad_reference")
