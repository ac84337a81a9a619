from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import verifiers
from tests.shared_data import shared

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


# What a model may write to choose the option {L} with the text {t}, with {o} and {u} some other option.
CHOOSES = (
    "{L}", "({L})", "{L})", "{L}.", "({L}) {t}", "{L}: {t}", "{L}) {t}", "{L}. {t}", "{t}", "The answer is {L}.",
    "The answer is ({L}) {t}.", "The answer is {L}, {t}.", "The answer is {L} - {t}", "The answer is {t}.",
    "The answer is the {t}.", "The answer is a {t}.", 'The answer is "{t}".', "The answer is {t} ({L}).",
    "So {t} is the correct answer.", "So ({L}) is the correct answer.", "The answer is **{L}**.",
    "The answer is **({L}) {t}**.", "**Answer:** {L}. {t}", "**Answer: {L}**", "\\boxed{{{L}}}",
    "\\boxed{{\\text{{{L}}}}}", "Thus, $\\boxed{{\\text{{({L}) {t}}}}}$.", "\\boxed{{\\text{{{t}}}}}", "#### {L}",
    "#### ({L})", "#### {t}", "<answer>{L}</answer>", "<answer>{L}. {t}</answer>", "{o} is wrong. The answer is {L}.",
    "It is not ({o}) {u}. Therefore, the answer is ({L}) {t}.", "The correct option is {L}.", "Option {L}: {t}",
    "I would choose ({L}) {t}.", "The answer is {L} because {t} fits, not {u}.", "The answer is {L}, not {o}.",
    "The answer is ({L}).\n\nQuestion: What is it?\nAnswer: ({o})", "<think>Maybe ({o}).</think>The answer is ({L}).",
    "The answer is ({L}) {t}.\n\nExplanation: ({o}) {u} is less likely.", "The correct answer is:\n\n**{L}. {t}**",
    "The answer is ({o}). Wait, actually the answer is ({L}).",
)  # fmt: skip
CHOOSES_NOTHING = (
    "", "I do not know.", "The answer is {L} or {o}.", "The answer is ({L}) and ({o}).", "The answer is {L}, {o}.",
    "The answer is {L}/{o}.", "\\boxed{{{L}, {o}}}", "\\boxed{{{L}}} \\boxed{{{o}}}", "The answer is ({L}) {u}.",
    "{L}. {u}", "\\boxed{{\\text{{({L}) {u}}}}}", "The answer is {t} or {u}.", "The answer is {u} or ({L}).",
    "The answer is maybe {L}.", "The answer is either {L} or {o}.", "The answer is not {L}.", "The answer is not {t}.",
    "({L}) {t}\n({o}) {u}", "The answer is (J).", "The answer is none of the above.",
    "The answer is \ue000{L}\ue001 or {u}.",
)  # fmt: skip


def questions() -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the right letter, the options and a wrong letter of CommonsenseQA's questions."""
    lines = shared("commonsenseqa/dev.jsonl").read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines[:300]):
        row = json.loads(line)
        options = {choice["label"]: choice["text"] for choice in row["question"]["choices"]}
        others = [letter for letter in options if letter != row["answerKey"]]
        # An option that is itself called "answer" still confuses "(D) answer is less likely" with a statement.
        if "answer" not in options.values() and len({text.casefold().strip() for text in options.values()}) == len(
            options
        ):
            yield row["answerKey"], options, others[index % len(others)]


@pytest.mark.full
def test_no_form_of_an_answer_to_commonsenseqa_is_misjudged() -> None:
    wrong: list[tuple[str, str, str]] = []
    check = verifiers.get("choice").function
    for right, options, other in questions():
        reference = {"answer": right, "options": options}
        for chosen, second in ((right, other), (other, right)):
            parts = {"L": chosen, "t": options[chosen], "o": second, "u": options[second]}
            for form in CHOOSES + CHOOSES_NOTHING:
                expected = "correct" if chosen == right and form in CHOOSES else "incorrect"
                if (verdict := check(form.format(**parts), reference)).status != expected:
                    wrong.append((form.format(**parts), right, verdict.reason))
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(
    ("completion", "answer", "options"),
    [
        ("The answer is a marching band.", "B", {"A": "band", "B": "marching band"}),
        ("The answer is vitamin C.", "B", {"A": "iron", "B": "Vitamin C", "C": "zinc"}),
        ("The answer is not hungry.", "A", {"A": "not hungry", "B": "hungry"}),
        ("The answer is 13.", "B", {"A": "3", "B": "13"}),
        ("The answer is 1/3.", "B", {"A": "3", "B": "1/3"}),
        ("The answer is -3.", "B", {"A": "3", "B": "-3"}),
        ("The answer is ocean.", "A", {"A": "the ocean", "B": "bank"}),
        ("The answer is exercise.", "A", {"A": "exercise", "B": "answer"}),
        ("A dog. The answer is A dog.", "B", {"A": "cat", "B": "dog"}),
    ],
)
def test_texts_of_options_that_look_alike_are_told_apart(completion: str, answer: str, options: dict[str, str]) -> None:
    assert judge(completion, {"answer": answer, "options": options}) == ("correct", "match")


@pytest.mark.parametrize("completion", ["The answer is 3 + x.", "The answer is 3.5.", "The answer is 13.", "3%"])
def test_a_number_within_another_is_no_choice(completion: str) -> None:
    assert judge(completion, {"answer": "A", "options": {"A": "3", "B": "4"}})[0] == "incorrect"
