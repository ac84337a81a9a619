from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from star_rft.ledger import Ledger
from star_rft.report.examples import KINDS, TRACES_A_PROBLEM, choose, traces_to_show


@pytest.fixture
def con(finished: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with Ledger(finished).connect() as con:
        yield con


def test_a_problem_is_chosen_once_for_the_first_reason_that_it_has(con: duckdb.DuckDBPyConnection) -> None:
    chosen = choose(con, traces=10_000, seed=0)
    counts = Counter(problem for part in chosen for problem in part.samples)
    assert set(counts.values()) == {1}
    ((problems,),) = con.sql("select count(distinct problem_id) from samples where split = 'train'").fetchall()
    assert len(counts) == problems
    order = [kind.name for kind in KINDS]
    assert [part.kind.name for part in chosen] == sorted((part.kind.name for part in chosen), key=order.index)


def test_what_a_kind_has_too_little_of_goes_to_others(con: duckdb.DuckDBPyConnection) -> None:
    wanted = 8
    chosen = choose(con, traces=wanted * TRACES_A_PROBLEM, seed=0)
    assert sum(len(part.samples) for part in chosen) == wanted


def test_the_choice_depends_on_the_seed_alone(con: duckdb.DuckDBPyConnection) -> None:
    def drawn(seed: int) -> list[dict[str, list[str]]]:
        return [part.samples for part in choose(con, traces=30, seed=seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_no_traces_are_no_problems(con: duckdb.DuckDBPyConnection) -> None:
    assert choose(con, traces=0, seed=0) == []


def test_flagged_traces_are_named_with_their_problems(con: duckdb.DuckDBPyConnection) -> None:
    flagged = set(con.sql("select sample_id from flagged").fetchall())
    for part in choose(con, traces=10_000, seed=0):
        named = {(sample,) for samples in part.samples.values() for sample in samples}
        assert named <= flagged


def test_the_trace_that_a_problem_was_chosen_for_is_shown() -> None:
    ids = [f"s{at}" for at in range(20)]
    looks = [(1, "correct", "the same")] * 20
    assert "s17" in traces_to_show(ids, looks, ["s17"])
    assert len(traces_to_show(ids, looks, ["s17"])) == TRACES_A_PROBLEM


def test_each_round_and_status_is_shown_before_the_same_again() -> None:
    looks = [
        (round_index, status, f"{round_index} {status} {n}")
        for round_index in (1, 2, 3)
        for status in ("correct", "incorrect")
        for n in range(4)
    ]
    ids = [f"s{at}" for at in range(len(looks))]
    shown = [looks[ids.index(sample)][:2] for sample in traces_to_show(ids, looks, [])]
    assert sorted(shown) == [(round_index, status) for round_index in (1, 2, 3) for status in ("correct", "incorrect")]


def test_a_text_is_not_shown_twice_while_there_are_others() -> None:
    looks = [(1, "correct", "a")] * 6 + [(1, "correct", f"b{at}") for at in range(5)]
    ids = [f"s{at}" for at in range(len(looks))]
    texts = [looks[ids.index(sample)][2] for sample in traces_to_show(ids, looks, [])]
    assert len(set(texts)) == TRACES_A_PROBLEM


def test_they_stay_in_the_order_in_which_they_were_drawn() -> None:
    ids = ["s3", "s1", "s2"]
    assert traces_to_show(ids, [(2, "correct", "x"), (1, "correct", "y"), (1, "incorrect", "z")], []) == ids
