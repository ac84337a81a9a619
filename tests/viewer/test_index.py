"""The index holds the run as it is now, is made again when the run grows, and leaves the run folder alone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from star_rft.data import write_problems
from star_rft.ledger import Ledger
from star_rft.viewer import index as indexing
from star_rft.viewer import reload as shelves
from star_rft.viewer.index import Index, stamp_of
from star_rft.viewer.pages import problem_page, trace_rows
from star_rft.viewer.reload import Shelf
from star_rft.viewer.search import Query, find, read
from tests.small_ledgers import commit, ledger_of, problem, sample, verdict
from tests.viewer.looked import files_of, finish_and_flag, index_of, write_run


def counted(index: Index, **chosen: str) -> int:
    return find(index, read(chosen.items())).traces


def test_every_trace_is_in_the_index_however_many_parts_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PARTS_AT_ONCE", 3)
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    for number in range(1, 8):
        commit(ledger, f"u{number}", [(sample("ab"[number % 2], number, f"text {number}"), verdict("incorrect"))])
    told: list[int] = []
    index = indexing.build(
        tmp_path, group_by=None, scratch=tmp_path / "scratch", advance=lambda units, tokens: told.append(units)
    )
    assert told == [3, 3, 2]
    assert (index.traces.count, counted(index, status="correct"), counted(index, q="text 5")) == (8, 1, 1)
    found = find(index, read([("by", "trace"), ("sort", "id")]))
    texts = [bit.text for row in trace_rows(index, Query(by="trace"), found, 1) for bit in row.text]
    assert texts == ["1 + 1 = 2", "text 2", "text 4", "text 6", "text 1", "text 3", "text 5", "text 7"]


def test_the_newest_verdict_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "PARTS_AT_ONCE", 1)
    first, second = sample("a", 0, "one"), sample("a", 1, "two")
    ledger = ledger_of(tmp_path, [(first, verdict("incorrect", "3"))])
    commit(ledger, "u1", [(second, verdict("incorrect", "3"))])
    ledger.supersede("v0", [(first.id, first.text, verdict("unknown", None))])
    ledger.supersede("v1", [(first.id, first.text, verdict("correct", "seven"))])
    index = index_of(tmp_path, tmp_path)
    assert index.traces.count == 2
    assert [counted(index, status=status) for status in ("correct", "incorrect", "unknown")] == [1, 1, 0]
    assert counted(index, q="SEVEN") == 1
    shown = problem_page(index, "a", own=None)
    assert shown is not None
    (column,) = shown[1]
    assert [(same.trace.status, same.trace.answer) for same in column.groups] == [
        ("correct", "seven"),
        ("incorrect", "3"),
    ]


def test_a_problem_that_was_never_sampled_is_there(tmp_path: Path) -> None:
    write_run(tmp_path)
    index = index_of(tmp_path, tmp_path)
    found = find(index, read([("class", "unseen")]))
    assert [index.problems.ids[number] for number in found.problems] == ["u"]
    assert found.traces == 0
    shown = problem_page(index, "u", own=None)
    assert shown is not None
    assert (shown[0].text, shown[1]) == ("What is u?", [])


def test_a_run_that_has_sampled_nothing_yet_can_be_looked_at(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.parquet", {"train": [problem("a")]})
    index = index_of(tmp_path, tmp_path)
    assert (index.traces.count, len(find(index, Query()).problems), find(index, Query()).pages(Query())) == (0, 1, 1)
    assert problem_page(index, "a", own=None) is not None
    assert trace_rows(index, Query(by="trace"), find(index, Query(by="trace")), 1) == []


def test_a_ledger_without_a_file_of_problems_can_be_looked_at(tmp_path: Path) -> None:
    index = index_of(ledger_of(tmp_path, [(sample("a", 0), verdict())]).run_dir, tmp_path)
    assert [index.problems.ids[number] for number in find(index, Query()).problems] == ["a"]


def test_a_group_with_quotes_in_its_name_is_a_name_and_no_path(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.parquet", {"train": [problem("a", meta={"how many. steps": 7})]})
    ledger_of(tmp_path, [(sample("a", 0), verdict())])
    assert counted(index_of(tmp_path, tmp_path, group_by="how many. steps"), group="7") == 1


def test_the_run_folder_is_left_alone_also_where_its_last_line_is_just_being_written(tmp_path: Path) -> None:
    run, scratch = tmp_path / "run", tmp_path / "scratch"
    ledger = write_run(run)
    with ledger.manifest.open("a") as out:
        out.write('{"unit": "half a li')
    before = files_of(run)
    index = index_of(run, scratch)
    find(index, read([("q", "apples")]))
    problem_page(index, "c", own=None)
    assert files_of(run) == before
    assert index.traces.count == 34


def test_names_with_quotes_are_names(tmp_path: Path) -> None:
    run = tmp_path / "it's a 'run'"
    write_run(run)
    index = index_of(run, tmp_path / "s'cratch")
    assert problem_page(index, "a", own=None) is not None


def waiting_for(shelf: Shelf, index: Index) -> Index:
    """Look again and again until the shelf holds another index."""
    for _ in range(200):
        if (now := shelf.current()[0]) is not index:
            return now
        time.sleep(0.05)
    raise AssertionError("the run was not read again")


def test_a_run_that_grows_is_read_again_while_the_old_state_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "LEAST_SECONDS", 0.0)
    ledger = ledger_of(tmp_path / "run", [(sample("a", 0), verdict())])
    shelf = Shelf(ledger.run_dir, lambda: index_of(ledger.run_dir, tmp_path), index_of(ledger.run_dir, tmp_path))
    before, has_grown = shelf.current()
    assert not has_grown
    commit(ledger, "u1", [(sample("b", 0), verdict())])
    assert shelf.current() == (before, True)
    after = waiting_for(shelf, before)
    assert (before.traces.count, after.traces.count) == (1, 2)
    finish_and_flag(ledger, 1)
    assert shelf.current()[1]
    assert counted(waiting_for(shelf, after), why="selected") == 2


def test_a_run_that_was_removed_while_it_is_looked_at_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "LEAST_SECONDS", 0.0)
    ledger = ledger_of(tmp_path / "run", [(sample("a", 0), verdict())])
    shelf = Shelf(ledger.run_dir, lambda: index_of(ledger.run_dir, tmp_path), index_of(ledger.run_dir, tmp_path))
    parts = ledger.run_dir / "ledger" / "samples"
    shutil.rmtree(parts)
    os.utime(ledger.manifest)
    with ledger.manifest.open("a") as out:
        out.write("\n")
    index, has_grown = shelf.current()
    time.sleep(0.3)
    assert has_grown
    assert shelf.current()[0] is index


def test_the_stamp_is_of_the_manifest_and_of_what_rounds_write(tmp_path: Path) -> None:
    ledger = write_run(tmp_path)
    stamp = stamp_of(tmp_path)
    assert stamp == stamp_of(tmp_path)
    commit(Ledger(tmp_path, is_writer=True), "more", [(sample("a", 9), verdict())])
    assert stamp_of(tmp_path) != stamp
    stamp = stamp_of(tmp_path)
    finish_and_flag(ledger, 2)
    assert stamp_of(tmp_path) != stamp
