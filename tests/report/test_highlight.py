"""What is marked in a trace: the answer that was judged, equations that do not hold, and nothing by guesswork."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_rft.report.highlight import EQUATIONS_LIMIT, MarkedText, marked
from tests.speed import processor_seconds, slowness


def shown(text: str, answer: str | None = None, verifier: str = "math", finish_reason: str = "stop") -> str:
    """The text with [answers] and {false equations} in brackets."""
    found = marked(text, answer=answer, verifier=verifier, finish_reason=finish_reason)
    assert "".join(piece.text for piece in found.pieces) == text
    around = {"": ("", ""), "answer": ("[", "]"), "false": ("{", "}")}
    return "".join(around[piece.kind][0] + piece.text + around[piece.kind][1] for piece in found.pieces)


def titles(found: MarkedText) -> list[str]:
    return [piece.title for piece in found.pieces if piece.kind == "false"]


@pytest.mark.parametrize(
    ("text", "answer", "says"),
    [
        ("3 + 4 = 7\n#### 7", "7", "3 + 4 = 7\n#### [7]"),
        ("#### 7\n\nOn second thought.\n#### 17", "17", "#### 7\n\nOn second thought.\n#### [17]"),
        (r"so \boxed{\frac12}.", r"\frac12", r"so \boxed{[\frac12]}."),
        (r"\boxed{3} and \boxed{5}", "3, 5", r"\boxed{[3]} and \boxed{[5]}"),
        ("<answer>Paris</answer> it is", "Paris", "<answer>[Paris]</answer> it is"),
        ("The answer is 15 or so. No, 5.", None, "The answer is 15 or so. No, 5."),
        ("In 15 days the answer is 5.", "5", "In 15 days the answer is [5]."),
        ("C is the answer", "C", "[C] is the answer"),
        ("He has 15 + 2 apples. So she has 17 apples.", "17", "He has 15 + 2 apples. So she has [17] apples."),
        ("<think>#### 3</think>#### 4", "4", "<think>#### 3</think>#### [4]"),
        ("#### 4\nQuestion: and now?\n#### 5", "4", "#### [4]\nQuestion: and now?\n#### 5"),
        ("The answer is minus 5.", "-5", "The answer is minus 5."),
        ("#### 5.25", "5", "#### 5.25"),
    ],
)
def test_the_answer_is_marked_where_the_verifier_read_it(text: str, answer: str | None, says: str) -> None:
    assert shown(text, answer) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3 * 4 = 11 apples, 2 + 2 = 4", "{3 * 4 = 11} apples, 2 + 2 = 4"),
        ("He has 48/2 = <<48/2=23>>23.", "He has 48/2 = <<{48/2=23}>>23."),
        ("He has 48/2 = <<5*3=15>>23.", "He has {48/2 = <<5*3=15>>23}."),
        (r"so $3 \times 4 = 11$ now", r"so ${3 \times 4 = 11}$ now"),
        ("so 3 × 4 = 11 now", "so {3 × 4 = 11} now"),
        ("- 3 * 4 = 11\n- 1 + 1 = 2", "- {3 * 4 = 11}\n- 1 + 1 = 2"),
        ("**3 * 4 = 11**", "**{3 * 4 = 11}**"),
        ("1 + 1 = 3, and so 11 + 1 = 35.", "{1 + 1 = 3}, and so {11 + 1 = 35}."),
        ("3 * 4 = 11, again 3 * 4 = 11", "{3 * 4 = 11}, again {3 * 4 = 11}"),
        ("x = 3 * 4, Day 1 = 5", "x = 3 * 4, Day 1 = 5"),
    ],
)
def test_an_equation_that_does_not_hold_is_marked_and_no_other(text: str, says: str) -> None:
    assert shown(text) == says


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("3*4=11", "3*4 is 12, not 11"),
        ("10 / 4 = 3", "10 / 4 is 2.5, not 3"),
        ("10 / 3 = 4", "10 / 3 is 10/3 (about 3.33333), not 4"),
        ("7 = 3 + 5", "the left side is 7, the right side 8"),
    ],
)
def test_a_false_equation_says_what_is_wrong_with_it(text: str, title: str) -> None:
    assert titles(marked(text, answer=None, verifier="math")) == [title]


def test_an_answer_inside_a_false_equation_is_marked_as_both() -> None:
    assert shown("The answer is 3 * 4 = 11.", "11") == "The answer is {3 * 4 = }[11]."


def test_a_program_has_no_marks_and_a_complaint_is_no_answer() -> None:
    program = "```python\nassert 3 * 4 == 12\nprint(3 * 4 = 11)\n```"
    assert shown(program, "3", verifier="code") == program
    assert shown("#### 3 * 4 = 11", "3 * 4 = 11", verifier="steps") == "#### {3 * 4 = 11}"


def test_the_last_word_of_a_cut_off_trace_is_no_answer() -> None:
    assert shown("5 and 5", "5", finish_reason="length") == "[5] and 5"
    assert shown("5 and 5", "5") == "5 and [5]"


def test_what_cannot_be_placed_is_said_beside_the_text() -> None:
    found = marked("3² = 10", answer=None, verifier="math")
    assert not titles(found)
    assert found.unplaced == ("3^2 = 10: 3^2 is 9, not 10",)


def test_many_false_equations_are_counted_not_listed() -> None:
    found = marked(" ".join(f"{i} + 1 = {i}." for i in range(10, 300)), answer=None, verifier="math")
    assert len(titles(found)) == EQUATIONS_LIMIT
    assert found.unplaced == (f"and {290 - EQUATIONS_LIMIT} more false equations",)


ALPHABET = st.sampled_from(
    ["1", "12", "3.5", "+", "*", "=", " ", "\n", "$", "\\boxed{", "}", "####", "<<", ">>", "is "]
)


@given(st.lists(ALPHABET, max_size=40).map("".join), st.sampled_from([None, "1", "12", "3.5", "1, 12"]))
def test_the_pieces_are_the_text(text: str, answer: str | None) -> None:
    shown(text, answer)


HOSTILE = {
    "equations": "1 + 1 = 3. ",
    "one equation inside others": "11 + 1 = 35. 1 + 1 = 3. ",
    "boxes": "\\boxed{5",
    "answers": "the answer is 5",
    "signs": "1+",
    "gaps": "3 $$$$$$$$ \\times ",
    "numbers": "7",
    "annotations": "<<1+1=3>>",
    "lines": "\n\n",
}


@pytest.mark.full
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_of_100_000_characters_takes_a_tenth_of_a_second(text: str) -> None:
    """In one of ten turns at least: other processes of the machine slow down this more than what it is held against."""
    whole = (text * (100_000 // len(text) + 1))[:100_000]
    turns = ((processor_seconds(lambda: marked(whole, answer="5", verifier="math")), slowness()) for _ in range(10))
    assert any(seconds < 0.1 * slower for seconds, slower in turns)
