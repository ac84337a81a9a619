from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers
from tests.shared_data import shared
from tests.speed import processor_seconds, slowness
from verifiers.checks.steps import Steps, examine


def judge(text: str, reference: object = None, **options: object) -> tuple[str, str]:
    verdict = verifiers.verify("steps", text, reference, **options)
    return verdict.status, verdict.reason


def false_ones(text: str) -> list[str]:
    return [equation.text for equation in examine(text).false]


@pytest.mark.parametrize(
    "text",
    [
        "<<48/2=24>>",
        "48/2 = 24",
        r"\frac{48}{2}=24",
        r"\dfrac{48}{2} &= 24 \\",
        r"$48 \div 2 = 24$",
        r"\[ 48 \times \left(2 + 1\right) = 144 \]",
        r"8 \cdot 3 = \boxed{24}",
        r"2 \text{ boxes} \times 12 = 24 \text{ eggs}",
        "5 x 3 = 15",
        "5x3=15",
        "5 × 3 = 15",
        "2 * $3.50 = $7",
        "$1,200 ÷ 4 = $300",
        "20% * 50 = 10",
        "20% of 50 = 10",
        "1/2 of 48 = 24",
        "30% + 20% = 50%",
        "5/20 * 100 = 25%",
        "3/4 = 75%",
        "50 * 20 percent = 10",
        "3 apples * 2 = 6",
        "3 red apples + 4 green apples = 7 apples",
        "$5/hour * 3 hours = $15",
        "2 1/2 * 4 = 10",
        "2(3 + 4) = 14",
        "(2)(3) = 6",
        "2^3 = 8",
        "2**3 = 8",
        "3² = 9",
        "-5 + 8 = 3",
        "8 - 13 = -5",
        "24 = 48/2",
        "3 times 4 = 12",
        "12 divided by 4 = 3",
        "48 + 24\n= 72",
        "48 + 24 =\n72",
        "**6 * 4 = 24**",
        "- 3 + 4 = 7",
        "10/3 = 3.33",
        "20/3 = 6.67",
        "10 / 3 ≈ 3",
        "1/3 = 33.3%",
        r"\frac{5}{4} = 1\frac{1}{4}",
        "7 / 3 = 2 1/3",
        r"90^\circ - 30^{\circ} = 60^\circ",
        r"\begin{align*} 3 + 4 &= 7 \\ x &= 1 \end{align*}",
        "4.20+9.45+1.35=14.999999999999998",
        "12/7 = 1.7142857142857142",
    ],
)
def test_an_equation_is_found_and_holds(text: str) -> None:
    (equation,) = examine(text).equations
    assert equation.holds


@pytest.mark.parametrize(
    ("text", "false"),
    [
        ("<<48/2=25>>", "48/2=25"),
        ("48/2 = 25 clips", "48/2 = 25"),
        (r"\frac{48}{2}=25", r"\frac{48}{2}=25"),
        (r"$48 \div 2 = 25$", "48 / 2 = 25"),
        ("5 x 3 = 16", "5 x 3 = 16"),
        ("2 * $3.50 = $8", "2 * $3.50 = $8"),
        ("20% * 50 = 11", "20% * 50 = 11"),
        ("3 apples * 2 = 7", "3 apples * 2 = 7"),
        ("1,000 + 1 = 1,002", "1,000 + 1 = 1,002"),
        ("10/3 = 3.34", "10/3 = 3.34"),
        ("20/3 = 6.66", "20/3 = 6.66"),
        ("10/3 = 3", "10/3 = 3"),
        ("25 = 48/2", "25 = 48/2"),
    ],
)
def test_a_wrong_step_is_reported_as_it_is_written(text: str, false: str) -> None:
    assert false_ones(f"First, {text}.") == [false]


def test_a_chain_is_checked_link_by_link() -> None:
    found = examine("2+3=5+1=6")
    assert [(e.text, e.holds) for e in found.equations] == [("2+3=5+1", False), ("5+1=6", True)]
    assert found.share_true == 0.5
    assert not examine("2 * 3 + 1 = 6 + 1 = 7").false


def test_the_text_around_an_annotation_is_checked_too() -> None:
    assert [e.text for e in examine("48/2 = <<48/2=24>>24 clips").equations] == ["48/2=24"]
    assert false_ones("48/2 = <<48/2=24>>25 clips") == ["48/2 = 25"]


@pytest.mark.parametrize(
    "text",
    [
        "x + 3 = 8",
        "5x + 3 = 18",
        "2x + 3y = 5 so x = 1",
        "Week 1 = 10 + 5",
        "3 hours = 3 * 60 minutes",
        "the total = 24",
        "26 = 5 + 3x\n21 = 3x",
        "f(2) = 9",
        "2 sin 30 = 4",
        "5! = 121",
        "5 choose 2 * 3 = 30 + 7",
        "7 mod 3 * 2 = 2",
        "12:00 + 18 = 6",
        "7 // 2 = 3",
        "boys + girls * 2 = 7",
        "100+(50*(1/2) = 125",
        r"\sqrt{16} + 1 = 5",
        r"2\pi = 6.28",
        "1,00 + 5 = 6",
        "3.4.5 + 1 = 2",
        "1/0 = 7",
        "3 <= 5 + 1",
        "2x-y+3=0",
        "5 - x-y = 3",
        "a == 3 + 5",
    ],
)
def test_algebra_labels_and_fragments_are_left_alone(text: str) -> None:
    assert not examine(text).equations


@pytest.mark.parametrize(
    "text",
    [
        "2 hours + 30 minutes = 150 minutes",
        "20 * 5 cents = $1",
        "3 dozen * 2 = 72",
        "28 / 1/5 = 140",
        "6 / 2(1 + 2) = 9",
        "Day 1 - 3 + 4 = 7",
        "Step 2 1/2*4=2",
        "7 / 2 = 3 remainder 1",
        "50 / 3 = 16 full boxes",
        "2 / 3 * 100% = 66.66...%",
    ],
)
def test_where_two_readings_exist_nobody_is_accused(text: str) -> None:
    assert not examine(text).false


def test_the_verdict_names_the_first_false_equation_and_the_share_that_holds() -> None:
    verdict = verifiers.verify("steps", "1 + 1 = 2, 2 + 2 = 5, 3 + 3 = 7.", None)
    assert (verdict.status, verdict.reason, verdict.answer) == ("incorrect", "mismatch", "2 + 2 = 5")
    assert verdict.score == pytest.approx(1 / 3)


def test_a_text_without_equations_passes_unless_some_are_required() -> None:
    assert judge("It is five.") == ("correct", "match")
    assert judge("It is five.", at_least=1) == ("incorrect", "no_answer")
    assert judge("2 + 3 = 5", at_least=1) == ("correct", "match")


def test_the_final_answer_must_be_reached_where_that_is_asked() -> None:
    text = "He has 2 + 3 = 5 apples.\n#### {}"
    assert judge(text.format(7)) == ("correct", "match")
    assert judge(text.format(7), derived=True) == ("incorrect", "mismatch")
    assert judge(text.format(5), derived=True) == ("correct", "match")
    assert judge(text.format(7), "... #### 5", derived=True) == ("correct", "match")
    assert judge("I do not know.", derived=True) == ("incorrect", "no_answer")


def test_a_false_equation_derives_nothing() -> None:
    assert not examine("2 + 3 = 6\n#### 6").is_derived


def test_an_answer_that_no_equation_reaches_is_not_derived() -> None:
    assert not examine("It stays the same.\n#### 12").is_derived


def test_the_steps_inside_the_thought_count() -> None:
    assert false_ones("<think>2 + 2 = 5</think>#### 5") == ["2 + 2 = 5"]


def test_a_reference_of_the_wrong_kind_is_unknown() -> None:
    assert judge("2 + 2 = 4", ["4"]) == ("unknown", "bad_reference")


numbers = st.one_of(st.integers(0, 10**9), st.decimals(0, 10**6, places=2).map(Fraction))


@given(numbers, st.sampled_from("+-*"), numbers)
def test_exact_results_hold_and_others_do_not(a: Fraction, sign: str, b: Fraction) -> None:
    exact = {"+": a + b, "-": a - b, "*": a * b}[sign]
    for result, holds in ((exact, True), (exact + 1, False)):
        text = f"so {float(a):.2f} {sign} {float(b):.2f} = {_decimal(result)} apples"
        assert [e.holds for e in examine(text).equations] == [holds], text


def _decimal(value: Fraction | int) -> str:
    scaled = Fraction(value) * 10_000
    assert scaled.denominator == 1
    digits = str(abs(scaled.numerator)).rjust(5, "0")
    return f"{'-' if value < 0 else ''}{digits[:-4]}.{digits[-4:]}"


@settings(max_examples=500)
@given(st.text(alphabet="0123456789+-*/=()[]{}<>.,%$ \n\\^xof:a", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(examine(text), Steps)


@pytest.mark.full
@pytest.mark.parametrize(
    "text",
    [
        "1" * 8000,
        "=" * 100_000,
        "1=" * 50_000,
        "{" * 100_000 + "1" + "}" * 100_000 + "=1",
        "((" * 50_000,
        "(1+" * 30_000 + "1=2",
        "-" * 100_000 + "=1",
        "1+" * 50_000 + "1=3",
        "9" * 25 + ("*" + "9" * 25) * 4000 + "=1",
        "9^64" * 10_000 + "=1",
        "2^64^64^64^64=1",
        "1/3+1/7+1/11+" * 5000 + "1=2",
        r"\frac" * 20_000 + "{1}{2}=1",
        "a " * 100_000 + "=1",
        "words " * 40_000 + "= 1",
        "\n" * 100_000 + "=1",
        " " * 100_000 + "1 = 1",
        "<<" * 50_000 + "1=1>>",
        "1,1" * 30_000 + "=1",
        "1.1" * 30_000 + "=1",
        "1%" * 50_000 + "=1",
        "×÷" * 50_000 + "=1",
        r"\text{" * 20_000 + "=1",
        "-(" * 30_000 + "1" + ")" * 30_000 + "=1",
        "= -" * 50_000,
        "1 - -" * 30_000 + "=1",
        "a-" * 60_000 + "=1",
    ],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    assert processor_seconds(lambda: examine(text, answer="1")) < 2.0 * slowness()


@pytest.mark.full
def test_the_equations_of_gsm8k_hold() -> None:
    lines = shared("gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()
    found = [examine(json.loads(line)["answer"], answer="0") for line in lines]
    total = sum(len(steps.equations) for steps in found)
    assert total > 29_000
    assert sum(len(steps.false) for steps in found) / total <= 0.001
