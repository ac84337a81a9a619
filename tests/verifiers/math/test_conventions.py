"""Each convention of `math` that is an option, and each that is not, once."""

from __future__ import annotations

from typing import Any

import pytest

import verifiers


def judge(answer: str, reference: str, **options: Any) -> bool:
    return verifiers.verify("math", rf"so \boxed{{{answer}}}", reference, **options).is_correct


def test_a_percent_equals_its_value_or_the_bare_number() -> None:
    assert judge("0.5", r"50\%")
    assert judge("50", r"50\%")
    assert judge(r"50\%", "50")
    assert not judge("0.5", "50")
    assert not judge("50", r"50\%", percent=False)
    assert judge("0.5", r"50\%", percent=False)


def test_units_are_dropped_unless_both_are_stated_and_differ() -> None:
    assert judge("5", r"5\text{ cm}")
    assert judge(r"5\text{ cm}", "5")
    assert judge(r"5\text{ centimeters}", r"5\text{ cm}")
    assert not judge(r"5\text{ m}", r"5\text{ cm}")
    assert not judge(r"5\text{ cm}^3", r"5\text{ cm}^2")
    assert not judge(r"5\text{ km}", r"5\text{ km/h}")
    assert judge("5 kilometers per hour", r"5\text{ km/h}")
    assert not judge("€5", r"\$5")
    assert not judge(r"5\sqrt{2}\text{ m}", r"5\sqrt{2}\text{ cm}")


def test_units_may_be_required_or_ignored() -> None:
    assert not judge("5", r"5\text{ cm}", units="required")
    assert judge(r"5\text{ cm}", r"5\text{ cm}", units="required")
    assert judge(r"5\text{ cm}", "5", units="required")
    assert judge(r"5\text{ m}", r"5\text{ cm}", units="ignored")


def test_lists_and_braces_are_unordered_unless_asked_for() -> None:
    assert judge("2, 1", "1, 2")
    assert judge(r"\{2, 1\}", "1, 2")
    assert not judge("2, 1", "1, 2", ordered=True)
    assert judge("1, 2", "1, 2", ordered=True)
    assert not judge("(2, 1)", "(1, 2)")


def test_decimals_are_exact_or_correct_to_six_places_or_as_many_as_asked_for() -> None:
    assert judge("0.333333", "1/3")
    assert judge("0.666667", "2/3")
    assert judge("1.414213562", r"\sqrt{2}")
    assert not judge("0.333", "1/3")
    assert not judge("0.333334", "1/3")
    assert judge("0.333", "1/3", decimals=3)
    assert judge("3.14", r"\pi", decimals=2)
    assert not judge("0.333333", "1/3", decimals=0)
    assert judge("0.5", "1/2", decimals=0)


def test_there_is_no_decimal_comma_unless_asked_for() -> None:
    assert judge("1,000", "1000")
    assert not judge("1,5", "1.5")
    assert judge("5,1", "1,5")
    assert judge("1,5", "1.5", decimal_comma=True)
    assert judge("1.234,5", "1234,5", decimal_comma=True)
    assert not judge("1,000", "1000", decimal_comma=True)


def test_words_are_compared_without_case_unless_asked_for() -> None:
    assert judge(r"\text{tuesday}", "Tuesday")
    assert not judge(r"\text{tuesday}", "Tuesday", case_sensitive=True)
    assert not judge(r"\text{not Tuesday}", "Tuesday")


def test_a_named_value_equals_the_value_unless_names_matter() -> None:
    assert judge("x = 5", "5")
    assert judge("5", "x = 5")
    assert not judge("y = 5", "x = 5")
    assert not judge("x = 5", "5", names=False)
    assert judge("x = 5", "x = 5", names=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "never"}, "optional, required, ignored"),
        ({"decimals": -1}, "0 or more"),
        ({"fallback": "guess"}, "none, sentence, last_number"),
    ],
)
def test_an_impossible_value_of_an_option_is_a_fault_that_says_what_is_valid(
    options: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert verifiers.verify("math", "so 5 it is", "5", **options).status == "unknown"
    assert message in caplog.text


def test_intervals_equal_their_inequalities_and_their_brackets_matter() -> None:
    assert judge(r"2 \le x < 5", "[2,5)")
    assert judge(r"\{x \mid 2 \leq x < 5\}", "[2,5)")
    assert judge(r"x \ge 2 \text{ and } x < 5", "[2,5)")
    assert not judge("[2,5]", "[2,5)")
    assert not judge("y > 3", "x > 3")


def test_clock_times_are_equal_in_all_their_forms() -> None:
    for answer in ("4:30 p.m.", "4:30 PM", r"4:30\text{ pm}", "4:30"):
        assert judge(answer, r"\text{4:30 p.m.}")
    assert judge("5:00 pm", "5 p.m.")
    assert not judge("4:30 a.m.", "4:30 p.m.")
    assert not judge("430", "4:30")


def test_bases_and_ratios_compare_as_written() -> None:
    assert judge("204_{5}", "204_5")
    assert not judge("204_6", "204_5")
    assert not judge("54", "204_5")
    assert judge("3 : 4", "3:4")
    assert not judge("4:3", "3:4")


def test_equations_are_equal_up_to_rearranging_and_a_factor() -> None:
    assert judge("2x - y + 3 = 0", "y = 2x + 3")
    assert judge("-29x - 7y + 23z - 28 = 0", "29x + 7y - 23z + 28 = 0")
    assert not judge("29x + 7y - 23z - 28 = 0", "29x + 7y - 23z + 28 = 0")
    assert not judge("x^2 + 121 = 2", "x^2 + 121 = 0")


def test_a_set_builder_a_named_tuple_and_the_reals_have_several_forms() -> None:
    assert judge("x = 1, y = 2", "(x, y) = (1, 2)")
    assert not judge("x = 2, y = 1", "(x, y) = (1, 2)")
    assert judge(r"(-\infty, \infty)", r"\mathbb{R}")
    assert judge(r"x \in \{2, 4\}", "2, 4")
    assert not judge("0", r"\emptyset")


def test_amounts_in_several_units_compare_unit_by_unit() -> None:
    assert judge("3 hours and 30 minutes", "3 hours 30 minutes")
    assert not judge("3 hours 20 minutes", "3 hours 30 minutes")
    assert not judge("3 hours", "3 hours 30 minutes")


def test_degrees_are_a_unit_and_inside_a_function_an_angle() -> None:
    assert judge(r"45^\circ", "45")
    assert judge(r"\frac12", r"\sin 30^\circ")
    assert not judge(r"\sin 1", r"\sin 1^\circ")


# What math-verify 0.9 takes for correct.
KNOWN_FALSE_POSITIVES = [
    ("4", r"\boxed{4t}"),
    (r"\frac{1}{2004!}", r"\boxed{\frac{1}{2006!}}"),
    (r"\frac{1}{2^{99}}", r"\boxed{\frac{1}{2^{98}}}"),
    ("1e-7", r"\boxed{2e-7}"),
    ("0.0000001", r"\boxed{0.0000002}"),
    (r"x^{2}+121=0", r"\boxed{x^{2}+121=2}"),
    ("204_5", r"\boxed{204_6}"),
    ("5", "The answer is not 5."),
    ("5", r"\boxed{\text{not }5}"),
    ("5", r"<think>so \boxed{5}</think> I could not solve it."),
    ("12", r"\boxed{1 2}"),
    ("3:30", r"\boxed{3/30}"),
    ("60", "This is 12/20 x 100% = 60% of them.\n<answer>120</answer>"),
]


@pytest.mark.parametrize(("reference", "completion"), KNOWN_FALSE_POSITIVES)
def test_what_others_wrongly_accept_is_not_correct(reference: str, completion: str) -> None:
    assert not verifiers.verify("math", completion, reference).is_correct


@pytest.mark.parametrize(
    "completion",
    [
        "The answer isn't 18.", "The answer may be 18.", "The answer is anything but 18", "The answer is half of 18.",
        "The answer is negative 18.", "The answer is greater than 18", "The answer is 18. No, 19.",
        "She sold over 18 clips.",
        "\\boxed{18}\n\nScratch that: 20.", "<think>x</think>\\boxed{18", "#### 18 or 19", "The answer is 18 squared",
        r"\boxed{42 \text{ or } 18}", r"\boxed{18 \text{ is wrong}}",
        "First 18, then 20. The answer is 17, 18, 19 or 20.",
    ],
)  # fmt: skip
def test_hedges_retractions_and_cut_off_answers_are_not_correct(completion: str) -> None:
    assert not verifiers.verify("math", completion, "18").is_correct


@pytest.mark.parametrize(
    "completion",
    [
        "The answer is 18. Let me double check: 9*2 = 18. Yes.", "\\boxed{18}\n\nNote that 17 would be wrong.",
        "#### 18\n\nThe mistake many make is to add 3.", "### Final Answer\n\n18 dollars",
        "<answer>The answer is 18.</answer>",
        "<Answer>18</Answer>", "The answer is 9*2=<<9*2=18>>18.", "She makes 18 dollars a day.", "```\n18\n```",
        "Therefore,\n\\[ x = 18 \\]", "#### Step 1: add\nThe total is 18.", "The answer is US$18.",
        r"\boxed{\textbf{(B) }18}",
        "The answer is 18 because 17 is not enough.", "The answer is eighteen.", "Answer $18$",
    ],
)  # fmt: skip
def test_ordinary_ways_to_state_an_answer_are_correct(completion: str) -> None:
    assert verifiers.verify("math", completion, "18").is_correct
