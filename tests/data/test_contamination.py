"""Contamination: what counts, what does not, and the counts on real data sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_rft.data import ContaminationError, ContaminationReport, load, overlaps, require_clean
from star_rft.data.contamination import normalised
from star_rft.types import Problem
from tests.shared_data import shared

STORY = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)


def problem(prompt: str, reference: str = "72") -> Problem:
    return load([{"question": prompt, "answer": reference}], verifier="numeric")[0]


def compare(train: str, held_out: str = STORY, *, train_reference: str = "72") -> str:
    """Return the one kind of overlap between two prompts, or "none"."""
    report = overlaps([problem(train, train_reference)], [problem(held_out)])
    found = [kind for kind, count in report.counts.items() if count]
    assert len(found) <= 1
    assert bool(report.train_ids) == bool(report.contaminated)
    return found[0] if found else "none"


def test_the_same_prompt_is_an_exact_overlap_whatever_its_reference() -> None:
    assert compare(STORY) == compare(STORY, train_reference="71") == "exact"


@pytest.mark.parametrize(
    "train",
    [
        STORY.upper(),
        STORY.replace(",", " ,").replace("?", " ?"),
        STORY.replace(" ", "\n\t "),
        STORY.replace("half as many", "half-as-many"),
        STORY.replace("April,", "\u201cApril\u201d \u2014"),
    ],
)
def test_case_punctuation_and_space_do_not_hide_an_overlap(train: str) -> None:
    assert compare(train) == "normalised"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4", "3 - 4"),
        ("3.5", "35"),
        ("x^2", "x2"),
        ("2 / 3", "23"),
        ("10%", "10"),
        ("[1, 200]", "[1200]"),
    ],
)
def test_different_problems_are_not_normalised_into_one(one: str, other: str) -> None:
    assert normalised(f"What is {one}?") != normalised(f"What is {other}?")


def test_prompts_of_nothing_but_punctuation_are_not_one_problem() -> None:
    assert compare("( ) ?", "[ ] ...") == "none"


def test_a_thousands_separator_is_no_difference() -> None:
    assert normalised("1,234,567 and 2,000.5") == normalised("1234567 and 2000.5")


@pytest.mark.parametrize(
    "train",
    [
        STORY.replace("Natalia", "Maria"),
        STORY.replace("and then she sold", "and afterwards sold"),
        f"Solve this step by step, in at most 3 lines. {STORY}",
        f"Question: 5 apples cost $3. How much is one? Answer: 0.60. Question: {STORY} Answer:",
    ],
)
def test_a_problem_that_is_reworded_or_quoted_is_an_overlap_by_ngrams(train: str) -> None:
    assert compare(train) == "ngram"


@pytest.mark.parametrize(
    ("train", "train_reference"),
    [
        (STORY.replace("48", "50"), "75"),
        (STORY.replace("altogether in April and May", "more in April than in May"), "24"),
        (STORY.split("How many")[0] + "In June she sold 10 for $3 each. What did June bring?", "30"),
    ],
)
def test_another_problem_with_the_same_phrases_is_only_a_shared_phrase(train: str, train_reference: str) -> None:
    assert compare(train, train_reference=train_reference) == "phrase"


def test_a_problem_of_fewer_than_thirteen_words_only_matches_as_a_whole() -> None:
    assert compare("Tom has 3 apples and eats 1. How many now?", "tom has 3 apples and eats 1: how many now") == (
        "normalised"
    )
    assert compare("Ann has 3 apples and eats 1. How many now?", "Tom has 3 apples and eats 1. How many now?") == (
        "none"
    )


def test_an_instruction_that_every_problem_carries_is_no_overlap() -> None:
    rule = "Reason step by step, write one line for each step, and put the final answer after four hashes. "
    train = [problem(f"{rule}What is {n} + 1?", str(n + 1)) for n in range(100)]
    held_out = [problem(f"{rule}What is {n} * 2?", str(n * 2)) for n in range(50)]
    assert overlaps(train, held_out).contaminated == 0
    leaked = [*train, problem(f"Exercise. {rule}What is 7 * 2?", "14")]
    assert overlaps(leaked, held_out).train_ids == {leaked[-1].id}


def test_under_different_instructions_a_problem_is_still_found() -> None:
    rule = "Reason step by step, write one line for each step, and put the final answer after four hashes. "
    other = "You are a patient tutor. "
    assert compare(f"{other}{STORY}", f"{other}{STORY}") == "exact"
    assert compare(f"{other}{STORY}", STORY) == "ngram"
    # The limit of the check: against 18 words of instruction on the held-out side the story is no longer
    # four fifths of the text. Render prompts after the check, as the loop does, and it does not arise.
    assert compare(f"{other}{STORY}", f"{rule}{STORY}") == "phrase"


@settings(max_examples=50)
@given(st.lists(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 30), max_size=20))
def test_the_exact_count_is_that_of_a_plain_intersection(train: list[int], held_out: list[int]) -> None:
    report = overlaps([problem(f"Compute {n}") for n in train], [problem(f"Compute {n}") for n in set(held_out)])
    assert report.counts["exact"] == report.contaminated == len(set(train) & set(held_out))


def test_dropping_the_named_training_problems_makes_the_sets_clean() -> None:
    train = [problem(STORY), problem(STORY.upper()), problem("Another question"), problem(f"Say: {STORY}")]
    report = overlaps(train, [problem(STORY)])
    assert report.train_ids == {train[0].id, train[1].id, train[3].id}
    kept = [p for p in train if p.id not in report.train_ids]
    assert overlaps(kept, [problem(STORY)]).contaminated == 0


def test_the_training_side_may_be_a_stream() -> None:
    report = overlaps((problem(text) for text in ("a", "b")), iter([problem("b")]))
    assert (report.train, report.held_out, report.counts["exact"]) == (2, 1, 1)


def test_contamination_stops_with_counts_an_example_and_the_key_that_allows_it() -> None:
    report = overlaps([problem(STORY)], [problem(STORY), problem("Something else")])
    with pytest.raises(ContaminationError, match=r"1 of 2 held-out .*1 exact.*Natalia.*data.contamination"):
        require_clean(report)
    require_clean(overlaps([problem("a")], [problem("b")]))


def _shared(file: str) -> list[Problem]:
    return load(shared(file), verifier="any")


def _found(report: ContaminationReport) -> tuple[int, ...]:
    return tuple(report.counts.values())


@pytest.mark.full
def test_gsm8k_train_is_clean_of_its_test_set() -> None:
    report = overlaps(_shared("gsm8k/train.jsonl"), _shared("gsm8k/test.jsonl"))
    assert _found(report) == (0, 0, 0, 3)


@pytest.mark.full
def test_gsm8k_test_among_its_training_set_is_found_whole() -> None:
    test = _shared("gsm8k/test.jsonl")
    renamed = [load([{"question": f"Dear pupil: {p.prompt}", "answer": p.reference}], verifier="any")[0] for p in test]
    report = overlaps([*_shared("gsm8k/train.jsonl"), *renamed], test)
    long_enough = [p for p in test if len(normalised(p.prompt).split()) >= 20]
    assert report.contaminated >= len(long_enough)


def test_the_parts_of_mawps_are_known_to_overlap() -> None:
    report = overlaps(_shared("mawps/addsub.jsonl"), _shared("mawps/singleeq.jsonl"))
    assert _found(report) == (0, 127, 77, 6)
    assert overlaps(_shared("mawps/addsub.jsonl"), _shared("mawps/multiarith.jsonl")).contaminated == 0


@pytest.mark.full
def test_templates_of_the_built_in_word_problems_raise_no_alarm() -> None:
    train = load("word_problems", verifier="numeric", split="train", options={"n": 4000})
    held_out = [
        p
        for split in ("dev", "test")
        for p in load("word_problems", verifier="numeric", split=split, options={"n": 500})
    ]
    report = overlaps(train, held_out)
    assert report.contaminated == 0
    assert report.counts["phrase"] > 100
