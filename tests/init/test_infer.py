"""Columns: what is proposed for which, and why."""

from __future__ import annotations

from typing import Any

import pytest

from star_rft.data import DataError
from star_rft.init.columns import columns_of, one_line
from star_rft.init.infer import propose, unused
from tests.init.files import adders, capitals, fractions, gsm8k_like, stories

LONG = "First we look at what is given, then we add it up."


def fields(rows: list[dict[str, Any]], **given: str) -> dict[str, str]:
    return {choice.field: choice.column for choice in propose(rows, given).choices}


def asked(*answers: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"What is number {i} of them?", **more, "answer": a} for i, a in enumerate(answers)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (asked("4", "5"), {"prompt": "question", "reference": "answer"}),
        ([{"problem": "1 + 1", "label": 2}], {"prompt": "problem", "reference": "label"}),
        ([{"input": "1 + 1", "target": 2}], {"prompt": "input", "reference": "target"}),
        ([{"my_question": "1 + 1?", "gold_answer": "2"}], {"prompt": "my_question", "reference": "gold_answer"}),
        ([{"questionText": "1 + 1?", "finalAnswer": "2"}], {"prompt": "questionText", "reference": "finalAnswer"}),
        (
            [{"answer": LONG, "question": "1 + 1?", "final_answer": "2"}],
            {"prompt": "question", "reference": "final_answer", "solution": "answer"},
        ),
        (
            [{"question": "1 + 1?", "answer": "2", "rationale": LONG}],
            {"prompt": "question", "reference": "answer", "solution": "rationale"},
        ),
        (
            [{"question": "1 + 1?", "answer": LONG, "label": "2"}],
            {"prompt": "question", "reference": "label", "solution": "answer"},
        ),
        (
            [{"question_id": "a", "question": "1 + 1?", "answer": "2"}],
            {"prompt": "question", "reference": "answer", "id": "question_id"},
        ),
        ([{"q": {"text": "1 + 1?"}, "a": {"value": "2"}, "gold": 2}], {"prompt": "q.text", "reference": "gold"}),
    ],
)
def test_names_say_what_a_column_is(rows: list[dict[str, Any]], expected: dict[str, str]) -> None:
    assert fields(rows) == expected


def test_without_names_the_content_says_it() -> None:
    assert fields(stories(12)) == {"prompt": "story", "reference": "result"}
    found = propose(fractions(12))
    assert {choice.field: choice.column for choice in found.choices} == {
        "prompt": "aufgabe",
        "reference": "antwort",
        "solution": "weg",
    }
    assert {choice.field: choice.why for choice in found.choices}["reference"] == "weg ends in it"


@pytest.mark.parametrize(
    ("values", "why"),
    [(["A", "C", "B", "A"], "letters"), ([12, 7, 30, 4], "numbers"), (["red", "blue", "red", "green"], "short")],
)
def test_answers_without_a_name_are_known_by_their_kind(values: list[Any], why: str) -> None:
    rows = [{"n": i, "frage": f"Was ist das Ding Nummer {i}?", "x": value} for i, value in enumerate(values)]
    choice = propose(rows).choices[1]
    assert (choice.field, choice.column) == ("reference", "x")
    assert why in choice.why


def test_a_count_of_the_rows_is_no_answer() -> None:
    rows = [{"n": i, "frage": f"Was ist das Ding Nummer {i}?", "x": i * i % 7} for i in range(6)]
    assert fields(rows)["reference"] == "x"


def test_known_data_sets_are_read_by_their_presets() -> None:
    gsm8k = propose(gsm8k_like(3))
    assert gsm8k.reading() == {"preset": "gsm8k"}
    assert all("GSM8K" in choice.why for choice in gsm8k.choices)
    stem = {"stem": "Where?", "choices": [{"label": "A", "text": "here"}, {"label": "B", "text": "there"}]}
    assert propose([{"question": stem, "answerKey": "B"}]).reading() == {"preset": "commonsenseqa"}


def test_a_marked_answer_is_found_under_any_name() -> None:
    rows = [{"frage": row["question"], "loesung": row["answer"]} for row in gsm8k_like(3)]
    named = {"question": "frage", "answer": "loesung"}
    assert propose(rows).reading() == {"preset": "gsm8k", "columns": named}
    boxed = [{"frage": f"Was ist {i} mal {i}?", "weg": rf"{LONG} Das ist \boxed{{{i * i}}}."} for i in range(4)]
    assert propose(boxed).reading() == {"preset": "math", "columns": {"problem": "frage", "solution": "weg"}}


def test_a_preset_must_fit_every_row() -> None:
    rows = [*gsm8k_like(2), {"question": "1 + 1?", "answer": "2"}]
    assert propose(rows).reading() == {"columns": {"prompt": "question", "reference": "answer"}}


def test_a_chat_is_read_by_its_turns() -> None:
    turns = [
        {"messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]}
        for row in gsm8k_like(3)
    ]
    assert propose(turns).reading()["columns"] == {"question": "messages.0.content", "answer": "messages.1.content"}


def test_what_the_user_names_wins_and_a_minus_means_none() -> None:
    rows = [{"question": "1 + 1?", "answer": "2", "other": "3", "rationale": LONG}]
    assert fields(rows, reference="other") == {"prompt": "question", "reference": "other", "solution": "rationale"}
    assert fields(rows, solution="-") == {"prompt": "question", "reference": "answer"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt": "frage"}, "no column 'frage'; the columns are answer, question"),
        ({"frage": "question"}, "no field 'frage'; valid are prompt, reference"),
        ({"prompt": "answer", "reference": "answer"}, "the same column"),
        ({"reference": "-"}, "every problem needs a reference"),
    ],
)
def test_a_column_that_is_named_wrongly_is_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        propose(asked("1", "2"), given)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"a": 1, "b": [1]}], r"no column looks like a question; there are a \(numbers\), b \(lists\).*prompt=COLUMN"),
        (asked(None, ""), "'answer' is empty in every row.*reference=COLUMN"),
        ([{"question": "1 + 1?"}], "no column looks like an answer.*no other column.*reference=COLUMN"),
        ([{"question": "1?", "x": f"{LONG} {LONG}"}], r"no column looks like an answer.*x \(texts of 24 words\)"),
    ],
)
def test_what_cannot_be_told_is_an_error_that_names_the_flag(rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(DataError, match=says):
        propose(rows)


def test_columns_that_nothing_reads_are_told() -> None:
    rows = asked("1", "2", passage="Once upon a time", level=3)
    assert unused(rows, propose(rows)) == ["passage"]
    assert unused(capitals(5), propose(capitals(5))) == []
    assert unused(adders(5), propose(adders(5))) == []


def test_an_example_is_one_line_that_a_terminal_can_show() -> None:
    assert one_line("a\n  b\x1b[31mred") == "a b[31mred"
    assert one_line("x" * 50, 10) == "xxxxxxx..."
    (column,) = columns_of([{"a": None}, {"a": ""}])
    assert column.example == "(empty in every row)"
