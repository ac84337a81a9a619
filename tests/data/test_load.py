"""`load`: ids, duplicates, shares, limits and the built-in generator."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_rft.data import DataError, load
from star_rft.types import Problem

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "solution": f"It is {2 * n}."} for n in range(200)]


def read(source: Any, **options: Any) -> list[Problem]:
    return load(source, verifier=options.pop("verifier", "numeric"), **options)


def test_an_id_depends_on_prompt_and_reference_alone() -> None:
    (here,) = read([{"question": "1 + 1?", "answer": "2", "level": 3}])
    (elsewhere,) = read([{"prompt": "1 + 1?", "answer": 2.0, "solution": "Two."}], verifier="math")
    (other,) = read([{"question": "1 + 1?", "answer": "3"}])
    assert here.id == elsewhere.id == "d92e248a37fa1df2"
    assert here.id != other.id


def test_duplicates_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        problems = read([*ROWS, *ROWS[:7]])
    assert len(problems) == 200
    assert "dropped 7 duplicates of 207 problems" in caplog.text


def test_one_prompt_with_two_references_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    problems = read([{"question": "1 + 1?", "answer": "2"}, {"question": "1 + 1?", "answer": "3"}])
    assert len(problems) == 2
    assert "1 questions occur with more than one reference" in caplog.text


def test_filters_never_shift_a_reference_to_another_prompt() -> None:
    # FIELD.md, defect 6: prompts were filtered, then zipped with the unfiltered list.
    rows = [{**row, "solution": row["solution"] * (n % 3 + 1)} for n, row in enumerate(ROWS)]
    problems = read([*rows, *rows[:9]], share=(0.2, 0.7), max_solution_chars=25, shuffle_seed=1, limit=40)
    assert len(problems) == 40
    for problem in problems:
        n = int(problem.prompt.split()[2])
        assert problem.reference == str(2 * n)
        assert problem.solution is not None
        assert set(problem.solution.replace("It is", "").split()) <= {f"{2 * n}.", f"{2 * n}.It"} | {"."}


@settings(max_examples=30)
@given(cut=st.floats(0.01, 0.99), order=st.randoms(use_true_random=False))
def test_shares_are_a_partition_whatever_the_order(cut: float, order: random.Random) -> None:
    shuffled = list(ROWS)
    order.shuffle(shuffled)
    everything = {p.id for p in read(ROWS)}
    low, high = _share(ROWS, 0.0, cut), _share(ROWS, cut, 1.0)
    assert low | high == everything
    assert not low & high
    assert _share(shuffled, 0.0, cut) == low


def _share(rows: list[dict[str, str]], low: float, high: float) -> set[str]:
    try:
        return {p.id for p in read(rows, share=(low, high))}
    except DataError:  # a share may be empty
        return set()


def test_spellings_of_one_prompt_fall_into_the_same_share() -> None:
    rows = [
        {"question": text, "answer": "4"}
        for n in range(50)
        for text in (f"What is {n}, then?", f"what is {n} then", f"What  is {n} --- then!?\n")
    ]
    low, high = read(rows, share=(0, 0.5)), read(rows, share=(0.5, 1))
    assert len(low) % 3 == len(high) % 3 == 0
    assert len(low) + len(high) == 150


def test_a_share_is_about_as_large_as_it_says() -> None:
    rows = [{"question": f"What is {n}?", "answer": "1"} for n in range(4000)]
    assert len(read(rows, share=(0.25, 0.5))) == pytest.approx(1000, abs=100)


def test_a_shuffle_depends_on_its_seed_and_not_on_the_order_of_the_file() -> None:
    assert read(ROWS, shuffle_seed=1) == read(ROWS[::-1], shuffle_seed=1)
    assert read(ROWS, shuffle_seed=1) != read(ROWS, shuffle_seed=2)
    assert read(ROWS, shuffle_seed=1, limit=5) == read(ROWS, shuffle_seed=1)[:5]


def test_a_limit_takes_the_first_distinct_problems() -> None:
    assert read([ROWS[0], *ROWS], limit=3) == read(ROWS)[:3]


def test_a_limit_reads_no_further_than_it_must() -> None:
    endless = ({"question": f"What is {n}?", "answer": "1"} for n in iter(int, 1))
    assert len(read(({**row, "question": f"{n}"} for n, row in enumerate(endless)), limit=2)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": (0.5, 0.5)}, r"share is \[0\.5, 0\.5\]; it must be \[low, high\]"),
        ({"share": (0, 2)}, "share is"),
        ({"limit": 0}, "limit is 0"),
        ({"max_solution_chars": 1}, "no problem is left .*max_solution_chars: 1"),
        ({"options": {"keep": 1}}, "preset 'qa' has no option 'keep'; valid are none"),
    ],
)
def test_an_impossible_choice_fails_and_says_what_is_valid(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(ROWS, **options)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": ""}, "the reference is empty"),
        ({"question": "a", "answer": "  "}, "the reference is empty"),
        ({"question": 3, "answer": "b"}, "the prompt must be text, but is int: 3"),
        ({"question": "a", "answer": float("nan")}, "the reference is nan"),
        ({"question": "a", "answer": object()}, "the reference cannot be written as JSON"),
        ({"question": "a\ud800", "answer": "b"}, "the prompt holds half a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_a_problem_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"row\[1\]: {message}"):
        read([ROWS[0], row])


def test_meta_keeps_what_a_report_groups_by() -> None:
    row = {**ROWS[0], "Level": 5, "type": "Algebra", "task_id": "T/1", "tokens": [1, 2], "source": None}
    assert read([row])[0].meta == {"level": 5, "type": "Algebra", "source_id": "T/1"}


def test_word_problems_are_loaded_with_their_steps_and_solutions() -> None:
    problems = read("word_problems", split="train", options={"n": 20, "seed": 3, "steps": [2, 3]})
    assert len(problems) == 20
    assert {p.meta["steps"] for p in problems} <= {2, 3}
    assert all(p.solution is not None and p.solution.endswith(f"#### {p.reference}") for p in problems)
    assert len(read("word_problems", split="test", limit=5)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validation"}, "split is 'validation'; valid are pretrain, train, dev, test"),
        ({}, "split is None"),
        ({"split": "test", "options": {"step": 3}}, "has no option 'step'; valid are n, seed, steps"),
        ({"split": "test", "options": {"steps": [0, 99]}}, "it must be \\(lowest, highest\\)"),
        ({"split": "test", "options": {"steps": 3}}, "options {'steps': 3}"),
    ],
)
def test_word_problems_refuse_what_they_cannot_make(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"word_problems.*{message}"):
        read("word_problems", **options)
