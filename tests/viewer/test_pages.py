"""What a page shows of a text, and how a problem's traces stand side by side."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_rft.viewer.pages import bits, hits_of, problem_page, problem_rows, trace_rows
from star_rft.viewer.search import Query, find, read
from tests.small_ledgers import commit, ledger_of, sample, verdict
from tests.viewer.looked import finish_and_flag, index_of, write_run


def marked(text: str, wanted: str, **settings: int) -> str:
    return "".join(f"[{bit.text}]" if bit.is_hit else bit.text for bit in bits(text, wanted, **settings))


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("Two Apples, two apples", "apples", "Two [Apples], two [apples]"),
        (" nothing here\n", "apples", "nothing here"),
        ("no search", "", "no search"),
        ("1 + 1 = 2", "+", "1 [+] 1 = 2"),
        ("ÄPFEL", "äpfel", "[ÄPFEL]"),
        # A capital I with a dot is longer in lower case: the mark is in the right place all the same.
        ("İstanbul has Apples", "apples", "İstanbul has [Apples]"),
        ("", "apples", ""),
    ],
)
def test_what_was_searched_for_is_set_apart(text: str, wanted: str, shown: str) -> None:
    assert marked(text, wanted) == shown


def test_a_long_text_is_shown_around_what_was_searched_for() -> None:
    text = "start " + "x" * 1000 + " apples " + "y" * 1000
    shown = marked(text, "apples")
    assert shown.startswith("... x")
    assert "[apples]" in shown
    assert shown.endswith("y ...")
    assert marked(text, "start").startswith("[start] x")
    assert marked(text, "").endswith("x ...")


@given(st.text(max_size=400), st.text(max_size=5), st.integers(1, 50))
def test_what_is_shown_is_a_stretch_of_the_text(text: str, wanted: str, shown: int) -> None:
    found = bits(text, wanted, shown=shown)
    inner = [bit.text for bit in found if bit.text not in ("... ", " ...")]
    assert "".join(inner) in text.strip()
    assert sum(map(len, inner)) <= shown
    assert all(re.fullmatch(re.escape(wanted), bit.text, re.IGNORECASE) for bit in found if bit.is_hit)


def test_those_who_say_the_same_stand_behind_the_one_that_was_kept(tmp_path: Path) -> None:
    texts = ["1 + 1 = 3", "1 + 1 = 2", "1 + 1  =  2", "1 + 1 = 2"]
    pairs = [(sample("a", i, text), verdict("incorrect" if i == 0 else "correct")) for i, text in enumerate(texts)]
    pairs.append((sample("a", 4, "1 + 1 = 2"), verdict("incorrect")))
    pairs.append((replace(sample("a", 5, "1 + 1 = 2"), hinted=True), verdict()))
    ledger = ledger_of(tmp_path, pairs)
    finish_and_flag(ledger, 1)
    shown = problem_page(index_of(tmp_path, tmp_path), "a", own=None)
    assert shown is not None
    (column,) = shown[1]
    groups = [[same.trace.sample_index, *(other.sample_index for other in same.others)] for same in column.groups]
    assert groups == [[0], [1, 2, 3], [4], [5]]
    assert (column.samples, column.correct, column.selected) == (5, 3, 1)


def test_a_row_says_how_many_of_a_problems_traces_were_found_and_where(tmp_path: Path) -> None:
    write_run(tmp_path)
    index = index_of(tmp_path, tmp_path)
    query = read([("q", "sum 1"), ("round", "2")])
    found = find(index, query)
    (row,) = problem_rows(index, query, found, 1)
    assert (row.id, row.hits, row.traces, row.samples, row.correct) == ("a", 1, 8, 8, 8)
    assert [(bar.round, bar.samples, bar.correct) for bar in row.bars] == [(1, 4, 4), (2, 4, 4)]
    assert [bit.text for bit in row.example if bit.is_hit] == ["Sum 1"]
    assert hits_of(index, found, "a") == {sample("a", 1, round_index=2).id}
    assert hits_of(index, found, "nothing") == set()


def test_hinted_samples_are_no_measure_of_a_problem(tmp_path: Path) -> None:
    write_run(tmp_path)
    index = index_of(tmp_path, tmp_path)
    (row,) = (row for row in problem_rows(index, Query(), find(index, Query()), 1) if row.id == "c")
    assert (row.traces, row.samples, row.correct) == (10, 8, 2)
    assert [bar.samples for bar in row.bars] == [4, 4]


def test_what_a_verifier_complains_of_is_not_called_an_answer(tmp_path: Path) -> None:
    said = replace(verdict("incorrect", "test 3 failed", "crash"), verifier="code")
    index = index_of(ledger_of(tmp_path, [(sample("a", 0), said)]).run_dir, tmp_path)
    query = Query(by="trace")
    (row,) = trace_rows(index, query, find(index, query), 1)
    assert (row.answer_label, row.answer) == ("says", "test 3 failed")
    shown = problem_page(index, "a", own=None)
    assert shown is not None
    assert shown[1][0].groups[0].trace.answer_label == "verifier says"


def test_a_search_is_remembered_but_not_for_long(tmp_path: Path) -> None:
    index = index_of(ledger_of(tmp_path, [(sample("a", 0), verdict())]).run_dir, tmp_path)
    for text in ["1 + 1", *(f"text {number}" for number in range(6)), "1 + 1"]:
        assert find(index, read([("q", text)])).traces == (text == "1 + 1")
    index.con.execute("drop table trace")
    assert find(index, read([("q", "1 + 1")])).traces == 1
    with pytest.raises(duckdb.CatalogException):
        find(index, read([("q", "text 0")]))


def test_a_grown_run_is_searched_anew(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    assert find(index_of(tmp_path, tmp_path), read([("q", "1 + 1")])).traces == 1
    commit(ledger, "u1", [(sample("b", 0), verdict())])
    assert find(index_of(tmp_path, tmp_path), read([("q", "1 + 1")])).traces == 2
