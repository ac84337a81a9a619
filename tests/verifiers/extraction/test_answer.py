from __future__ import annotations

import time

import pytest

from verifiers.extraction.answer import Fallback, extract, reference_answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("2+3=5\n#### 5", "5"),
        ("#### 1,234\nThis checks out.", "1,234"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{5}", "5"),
        (r"\boxed{\boxed{6}}", "6"),
        (r"\fbox{5}", "5"),
        (r"\boxed 7 is it", "7"),
        ("<answer> $18 </answer>", "$18"),
        ("So the answer is 5.", "5"),
        ("The answer is 4:30 p.m.", "4:30 p.m."),
        ("Final Answer: The final answer is $62$. I hope it is correct.", "$62$"),
        ("Answer:\n\n$$3$$", "3"),
        ("Q: How many?\nA: 13", "13"),
        ("Therefore, 5 is the answer.", "5"),
        ("The correct option is D", "D"),
        ("The answer is 5 because 2+3=5.", "5"),
        ("The answer is **5**.", "5"),
    ],
)
def test_markers_give_the_answer(completion: str, answer: str) -> None:
    assert extract(completion).answer == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 18\nWait, I forgot 2 eggs.\n#### 20", "20"),
        (r"So \boxed{18}. Correct: \boxed{26}.", "26"),
        (r"The answer is 5. \boxed{6}", "6"),
        (r"\boxed{6} so the answer is 7.", "7"),
        (r"\boxed{6}. The answer is clear to everyone.", "6"),
    ],
)
def test_the_last_marker_wins(completion: str, answer: str) -> None:
    assert extract(completion).answer == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"\boxed{3} \boxed{4}", "3, 4"),
        (r"x=\boxed{4} or x=\boxed{3}", "4, 3"),
        ("\\boxed{6}\n\\boxed{6}", "6"),
        (r"first \boxed{1}, and then after some more work \boxed{2}", "2"),
    ],
)
def test_joined_boxes_are_one_answer(completion: str, answer: str) -> None:
    assert extract(completion).answer == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"\boxed{6}.\n\nProblem: What is $3^3$?".replace(r"\n", "\n") + r" \boxed{27}", "6"),
        ("#### 18\nQuestion: Tom has 3 apples.\n#### 3", "18"),
        ("The answer is 18.\n\nQ: And now?\nA: 20", "18"),
        ("#### 18<|im_end|>\n<|im_start|>user\n#### 7", "18"),
        ("Question: Janet has 16 eggs.\nAnswer: 13", "13"),
    ],
)
def test_text_that_runs_on_into_a_new_question_is_cut(completion: str, answer: str) -> None:
    assert extract(completion).answer == answer


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (r"<think>\boxed{4}</think> \boxed{5}", "5"),
        ("<think>The answer is 4.</think>", None),
        (r"<think>2+3=5, so \boxed{5}", None),
    ],
)
def test_only_text_after_the_thought_counts(completion: str, answer: str | None) -> None:
    assert extract(completion, fallback="sentence").answer == answer


@pytest.mark.parametrize(
    "completion", [r"\boxed{}", r"\boxed{ }", r"\boxed{?}", r"So the answer is 5 \boxed{}", "#### ", "", " \n", "hm"]
)
def test_an_empty_answer_is_no_answer(completion: str) -> None:
    assert extract(completion, fallback="sentence").reason == "no_answer" or completion == "hm"
    assert extract(completion).reason == "no_answer"


@pytest.mark.parametrize(
    "completion",
    [
        "The answer is 3 or maybe 4.",
        "The answer is either 3 or 4",
        "The answer is between 10 and 15.",
        "The answer is not 5.",
        "#### ~3",
        "#### 18\nWait, that is wrong. It is 20.",
        "\\boxed{18}\n\nActually, let me recheck: it should be 26.",
        "#### 5\n\nHmm, let me recompute: 2+4 = 6.",
        "I don't think the answer is 5.",
        "Suppose the answer is 5. Then 2x = 11, a contradiction.",
        "The answer is 5 when x = 1 and 6 otherwise",
        r"So it is 2\boxed{5}",
        r"$-\boxed{5}$",
        r"$\frac{\boxed{5}}{2}$",
        r"$\boxed{5}^2$",
        r"\boxed{5}x",
    ],
)
def test_hedges_and_retractions_are_ambiguous(completion: str) -> None:
    assert extract(completion).reason == "ambiguous"


@pytest.mark.parametrize(
    ("completion", "fallback", "answer"),
    [
        ("First 2+1=3.\nTherefore it takes 3 bolts in total.", "sentence", "3"),
        ("Some steps.\n**3 bolts**", "sentence", "3 bolts"),
        ("28 %", "sentence", "28 %"),
        ("The pair is $(7, 6)$.", "sentence", "$(7, 6)$"),
        ("Either 3 or 4.", "sentence", None),
        ("The total is 3, which is more than 2.", "sentence", None),
        ("So 16 - 3 = 13 and then 13 - 4 =", "sentence", None),
        ("Step one.\nSo she has 5", "sentence", None),
        ("Therefore it takes 3 bolts.", "none", None),
        ("She has 5 and then 7 more of them", "last_number", "7"),
    ],
)
def test_without_a_marker_the_fallback_decides(completion: str, fallback: Fallback, answer: str | None) -> None:
    assert extract(completion, fallback=fallback).answer == answer


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("She has 3+4=<<3+4=7>>7.\n#### 7", "7"),
        ("#### 1,234", "1,234"),
        (r"Thus $x = \boxed{5}$.", "5"),
        (r"\frac12", r"\frac12"),
    ],
)
def test_a_reference_may_be_a_whole_solution(reference: str, answer: str) -> None:
    assert reference_answer(reference) == answer


PIECES = [
    "3", "x ", "{", "}", "\n", " ", "$", "-", ".", "1,", "1 ", "1.1", "1/", "#### ", "\nQ: ", "Question: ", "<answer>",
    "the answer is ", "the answer to ", "\\boxed{", "\\boxed{5}", "\\boxed{1}, ", "\\boxed{\\text{", "1 is the answer ",
    "<think>", "it is a ", "A: ",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    for fallback in ("sentence", "last_number"):
        extract(text, fallback=fallback)
    assert time.process_time() - began < 2.0


def test_eight_thousand_digits_hang_nothing() -> None:
    began = time.process_time()
    assert extract("The answer is " + "3" * 8000, fallback="sentence").answer
    assert time.process_time() - began < 0.2
