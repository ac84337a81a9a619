"""Properties of extraction and of the math tiers, over inputs that Hypothesis invents."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import verifiers
from verifiers.checks.math import matches_reference, read_reference
from verifiers.extraction.answer import FALLBACKS, extract, plain_number, reference_answer
from verifiers.math.compare import same_answer
from verifiers.math.latex import clean
from verifiers.math.numbers import parse_numeral

FRAGMENTS = [
    "####", "\\boxed{", "\\fbox{", "}", "{", "<answer>", "</answer>", "The answer is ", "A: ", "Answer: ",
    "\nQuestion: ",
    "<think>", "</think>", "<|im_end|>", "\n", " ", "$", "\\$", "\\(", "\\)", "\\[", "\\]", "5", "12", "1,234",
    "3.5", "-7",
    "1/2", "\\frac12", "\\frac{1}{2}", "\\sqrt{2}", "x", "x^2", "=", "<", "\\le", ",", ";", " or ", " and ",
    "\\text{ cm}",
    "\\%", "%", "(", ")", "[", "]", "\\{", "\\}", "\\pm", "\\cup", "\\infty", "\\pi", "^", "_", "!", "|", "...",
    "not ", "wait",
    "No,", "maybe ", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", "**", "^\\circ", ":30 p.m.", "_5", "\u00b2",
    "\u00bd",
]  # fmt: skip
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
answers = st.lists(st.sampled_from(FRAGMENTS[23:]), min_size=1, max_size=8).map("".join)
integers = st.integers(min_value=-(10**12), max_value=10**12)
fractions = st.builds(Fraction, st.integers(-9999, 9999), st.integers(1, 9999))


def forms_of_an_integer(n: int) -> list[str]:
    """The ways in which this package promises to read a whole number."""
    sign, size = "-" if n < 0 else "", abs(n)
    grouped = f"{size:,}"
    return [
        f"{n}", f"{n}.", f"{n}.0", f"{n}.00", f"{sign}{grouped}", f"{sign}{grouped}".replace(",", "{,}"),
        f"{sign}{grouped}".replace(",", "\\,"), f"{sign}{grouped}".replace(",", " "), f"\\${n}", f"{sign}\\${size}",
        f"{n} apples", f"{n}\\text{{ cm}}", f"{n}\\,\\mathrm{{kg}}", f"x = {n}", f"\\frac{{{n * 3}}}{{3}}",
        f"{n * 7}/7",
        f"{{{n}}}", f"({n})", f"\\left({n}\\right)", f"\\mathbf{{{n}}}", f"{n}e0", f"{n} \\times 10^0", f"${n}$",
        f"**{n}**",
        f"\u2212{size}" if n < 0 else f"+{size}", str(n).translate({ord(d): ord(d) + 0xFEE0 for d in "0123456789"}),
        f"{n}+0", f"2\\cdot {n} - ({n})", f"\\sqrt[3]{{({n})^3}}" if abs(n) < 10**5 else f"{n}",
    ]  # fmt: skip


def forms_of_a_fraction(value: Fraction) -> list[str]:
    p, q = value.numerator, value.denominator
    sign, size = "-" if p < 0 else "", abs(p)
    mixed = f"{sign}{size // q}\\frac{{{size % q}}}{{{q}}}" if size > q and size % q else f"{p}/{q}"
    return [
        f"{p}/{q}", f"\\frac{{{p}}}{{{q}}}", f"\\dfrac{{{p}}}{{{q}}}", f"{sign}\\frac{{{size}}}{{{q}}}", mixed,
        f"\\frac{{{2 * p}}}{{{2 * q}}}", f"\\frac{{{-p}}}{{{-q}}}", f"{p} \\div {q}",
        f"\\left(\\frac{{{p}}}{{{q}}}\\right)",
        f"\\frac{{{100 * p}}}{{{q}}}\\%",
    ]  # fmt: skip


def judge(answer: str, reference: str) -> str:
    return verifiers.verify("math", f"so \\boxed{{{answer}}}", reference, symbolic=False).status


@given(integers, st.data())
def test_an_integer_in_any_form_is_itself(n: int, data: st.DataObject) -> None:
    first, second = (data.draw(st.sampled_from(forms_of_an_integer(n))) for _ in range(2))
    assume("\\text" not in first or "\\mathrm" not in second)
    assume("\\mathrm" not in first or "\\text" not in second)
    units = [any(unit in form for unit in ("apples", "cm", "kg", "\\$")) for form in (first, second)]
    assume(not all(units) or first == second)
    assert judge(first, second) == "correct"


@given(integers, integers, st.data())
def test_an_integer_in_any_form_is_no_other(n: int, other: int, data: st.DataObject) -> None:
    assume(n != other)
    first = data.draw(st.sampled_from(forms_of_an_integer(n)))
    second = data.draw(st.sampled_from(forms_of_an_integer(other)))
    assert judge(first, second) != "correct"


@given(fractions, st.data())
def test_a_fraction_in_any_form_is_itself(value: Fraction, data: st.DataObject) -> None:
    first, second = (data.draw(st.sampled_from(forms_of_a_fraction(value))) for _ in range(2))
    assert judge(first, second) == "correct"


@given(fractions, fractions, st.data())
def test_a_fraction_in_any_form_is_no_other(value: Fraction, other: Fraction, data: st.DataObject) -> None:
    assume(other not in (value, 100 * value, value / 100))  # a percent equals the bare number too
    first = data.draw(st.sampled_from(forms_of_a_fraction(value)))
    second = data.draw(st.sampled_from(forms_of_a_fraction(other)))
    assert judge(first, second) != "correct"


@given(fractions, st.integers(6, 12))
def test_a_decimal_stands_for_a_fraction_only_if_its_last_place_is_right(value: Fraction, places: int) -> None:
    scaled = round(value * 10**places)
    sign, digits = "-" if scaled < 0 else "", str(abs(scaled)).rjust(places + 1, "0")
    decimal = f"{sign}{digits[:-places]}.{digits[-places:]}"
    off = f"{sign}{digits[:-places]}.{int(digits[-places:]) + 3:0{places}d}"
    significant = len(str(abs(scaled)))
    if value == Fraction(decimal) or significant >= 6:
        is_right = value == Fraction(decimal) or not _terminates(value)
        assert (judge(decimal, f"{value.numerator}/{value.denominator}") == "correct") == is_right
    if len(off) == len(decimal):
        assert judge(off, f"{value.numerator}/{value.denominator}") != "correct"


def _terminates(value: Fraction) -> bool:
    return 10**40 % value.denominator == 0


@given(texts)
@example("\\boxed{")
@example("A:")
def test_extraction_never_raises_and_says_why_there_is_no_answer(text: str) -> None:
    for fallback in FALLBACKS:
        found = extract(text, fallback=fallback)  # type: ignore[arg-type]
        assert (found.answer is None) == (found.reason is not None)
        assert found.answer is None or found.answer.strip()


@given(answers)
def test_extraction_is_idempotent(answer: str) -> None:
    once = extract(f"so \\boxed{{{answer}}}").answer
    assume(once is not None)
    assert once is not None
    assume("boxed" not in once and "fbox" not in once and once.count("{") == once.count("}"))
    assert extract(f"so \\boxed{{{once}}}").answer == once


@given(
    texts,
    st.sampled_from(["#### {}", "The answer is {}.", "A: {}", "\\boxed{{{}}}", "<answer>{}</answer>", "{}"]),
    integers,
)
def test_the_shortcut_for_plain_numbers_agrees_with_extraction(before: str, marker: str, n: int) -> None:
    for number in (f"{n}", f"{n:,}", f"${n}", f"\\${n}.00", f"{n}.0"):
        text = f"{before}\n{marker.format(number)}"
        if (plain := plain_number(text)) is not None:
            answer = extract(text, fallback="sentence").answer
            numeral = None if answer is None else parse_numeral(clean(answer))
            assert numeral is not None
            assert numeral.value == plain[1]


@given(answers)
def test_an_answer_is_itself_or_undecided(answer: str) -> None:
    cleaned = clean(answer)
    assume(cleaned)
    assert same_answer(cleaned, cleaned) is True


@given(answers, answers)
@settings(max_examples=200)
def test_equality_is_symmetric(first: str, second: str) -> None:
    a, b = clean(first), clean(second)
    assume(a and b)
    # What cannot be read may be refuted one way and left undecided the other.
    assert (same_answer(a, b) is True) == (same_answer(b, a) is True)


@given(answers, texts)
@settings(max_examples=200)
def test_comparing_never_raises_on_any_text(reference: str, answer: str) -> None:
    expected = read_reference(reference)
    assume(expected is not None)
    assert expected is not None
    assert matches_reference(expected, answer, symbolic=False) in (True, False, None)
    assert isinstance(reference_answer(answer), str)


@given(st.lists(integers, min_size=2, max_size=5, unique=True))
def test_lists_are_unordered_and_tuples_are_not(values: list[int]) -> None:
    listed, turned = ", ".join(map(str, values)), ", ".join(map(str, values[::-1]))
    assert judge(turned, listed) == "correct"
    assert judge(f"({turned})", f"({listed})") == "incorrect"
    assert judge(f"({listed})", f"({listed})") == "correct"
    assert judge(turned, f"{listed}, {max(values) + 1}") == "incorrect"


@given(st.integers(-99, 99), st.integers(1, 99), st.sampled_from(["[]", "()", "[)", "(]"]))
def test_an_interval_equals_its_inequality_and_no_other(low: int, length: int, brackets: str) -> None:
    high = low + length
    signs = ["\\le" if bracket in "[]" else "<" for bracket in brackets]
    inequality = f"{low} {signs[0]} x {signs[1]} {high}"
    interval = f"{brackets[0]}{low},{high}{brackets[1]}"
    assert judge(inequality, interval) == judge(interval, inequality) == "correct"
    for other in ("[]", "()", "[)", "(]"):
        if other != brackets:
            assert judge(f"{other[0]}{low},{high}{other[1]}", interval) == "incorrect"
