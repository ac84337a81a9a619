"""Options and tests in columns of their own become problems that a model can see and a verifier can judge."""

from __future__ import annotations

from typing import Any

import pytest

import verifiers
from star_rft.data import DataError
from star_rft.init.infer import ColumnRoles, propose
from tests.init.files import adders, capitals

SOLD = "What does it sell?\n(A) apples\n(B) pears\n(C) plums"
OPTIONS = ["apples", "pears", "plums"]
LABELLED = [{"label": label, "text": text} for label, text in zip("ABC", OPTIONS, strict=True)]


def converted(rows: list[dict[str, Any]]) -> ColumnRoles:
    found = propose(rows)
    assert found.conversion is not None
    return found


@pytest.mark.parametrize(
    "row",
    [
        {"question": "What does it sell?", "choices": OPTIONS, "answer": 1},
        {"question": "What does it sell?", "choices": OPTIONS, "answer": "pears"},
        {"question": "What does it sell?", "options": OPTIONS, "answer": "B"},
        {"question": "What does it sell?", "options": dict(zip("ABC", OPTIONS, strict=True)), "answer": "(b)"},
        {"question": "What does it sell?", "choices": {"text": OPTIONS, "label": ["A", "B", "C"]}, "answer": "B"},
        {"question": "What does it sell?", "choices": LABELLED, "answer": "B"},
        {"question": "What does it sell?", **dict(zip("ABC", OPTIONS, strict=True)), "answer": "B"},
        {"question": "What does it sell?", "option_a": "apples", "option_b": "pears", "option_c": "plums", "answer": 1},
    ],
)
def test_options_are_put_under_the_question_however_they_are_told(row: dict[str, Any]) -> None:
    assert converted([row]).row(row) == {"prompt": SOLD, "reference": "B"}


def test_numbers_begin_where_the_data_begins_to_count() -> None:
    rows = [{"question": f"What is sold in {i}?", "choices": OPTIONS, "answer": i} for i in (1, 2, 3)]
    assert [converted(rows).row(row)["reference"] for row in rows] == ["A", "B", "C"]
    rows = [{"question": f"What is sold in {i}?", "choices": OPTIONS, "answer": i} for i in (0, 1, 2)]
    assert [converted(rows).row(row)["reference"] for row in rows] == ["A", "B", "C"]


def test_an_answer_that_is_no_option_is_an_error_not_a_guess() -> None:
    found = converted(capitals(8))
    with pytest.raises(DataError, match="'answer' is 9, which is none of the options A apples 0; B"):
        found.row({**capitals(1)[0], "answer": 9})


@pytest.mark.parametrize(
    "row",
    [
        {"question": SOLD, "choices": OPTIONS, "answer": "B"},  # shown already
        {"question": "Which letter follows A?", "tags": ["easy", "letters"], "answer": "B"},  # tags are no options
        {"question": "How many?", "choices": ["one"], "answer": "A"},
        {"question": "How many?", "scores": [1, 2, 3], "answer": 2.5},
    ],
)
def test_what_is_no_multiple_choice_is_left_as_it_is(row: dict[str, Any]) -> None:
    assert propose([row]).conversion is None


@pytest.mark.parametrize(
    ("tests", "reference"),
    [
        ("assert f(1) == 2", {"tests": "assert f(1) == 2"}),
        (["assert f(1) == 2", "assert f(2) == 3"], {"tests": "assert f(1) == 2\nassert f(2) == 3"}),
        ('["assert f(1) == 2"]', {"tests": "assert f(1) == 2"}),
        ([{"input": "1\n", "output": "2\n"}], {"cases": [{"stdin": "1\n", "stdout": "2\n"}]}),
        ({"inputs": ["1"], "outputs": ["2"]}, {"cases": [{"stdin": "1", "stdout": "2"}]}),
        ('{"inputs": ["1"], "outputs": [["2", "3"]]}', {"cases": [{"stdin": "1", "stdout": "2\n3"}]}),
    ],
)
def test_tests_are_made_into_what_the_verifier_reads(tests: Any, reference: dict[str, Any]) -> None:
    row = {"task": "Write f, which adds one.", "checks": tests, "answer": "def f(x): return x + 1"}
    made = converted([row]).row(row)
    assert (made["prompt"], made["reference"]) == (row["task"], reference)
    look = verifiers.get("code").reference_problem
    assert look is not None
    assert look(made["reference"]) is None


def test_tests_that_alone_name_the_function_are_shown() -> None:
    (row,) = adders(1)
    made = converted([row]).row(row)
    assert made["prompt"] == "Write a function that adds 0.\nYour code should pass these tests:\n\nassert add(1) == 1"
    assert made["solution"] == "```python\ndef add(x):\n    return x + 0\n```"
    sorting = {"task": "Sort with sorted().", "tests": "assert sort_it(sorted([2, 1])) == [1, 2]"}
    assert "sort_it" in converted([sorting]).row(sorting)["prompt"]
    named = {"task": "Write check_it.", "entry_point": "check_it", "tests": "def check(c):\n    assert c(1)"}
    made = converted([named]).row(named)
    assert made["prompt"] == "Write check_it."
    assert made["reference"]["entry_point"] == "check_it"


def test_a_text_that_asserts_something_is_no_test() -> None:
    row = {"question": "What do they assert?", "answer": "They assert that it is so, and nothing else."}
    assert propose([row]).conversion is None


def test_what_groups_problems_and_names_them_stays() -> None:
    row = {**capitals(1)[0], "level": 3, "Subject": "shops", "noise": 1}
    made = converted([row]).row(row)
    assert {key: made[key] for key in ("id", "level", "Subject")} == {"id": "q0", "level": 3, "Subject": "shops"}
    assert "noise" not in made
