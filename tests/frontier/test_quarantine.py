"""A reference that was found wrong: its traces and its reference solution are not trained on until it is found
right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import star_rft
from star_rft.frontier.review import add
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from tests.small_runs import EVALUATED_ONCE, FEW_PROBLEMS, write_config

pytestmark = pytest.mark.full

SMALL: dict[str, Any] = {
    "sample": {"n": 4, "max_tokens": 96, "unit": 64, "batch_size": 16},
    "select": {"rules": ["correct"], "rounds": "last", "reference_solutions": 1.0},
    "train": {"max_steps": 1, "batch_size": 8, "lr": 1e-5},
    "budget": {"plan": "adaptive", "probe": 1, "target": 4},
    "rationalize": {"n": 1},
    "gate": None,
    "eval": EVALUATED_ONCE,
    "data": FEW_PROBLEMS,
}


def why(run: Path, problem: str, round_index: int) -> set[str]:
    query = "select distinct why from selection where problem_id = ? and in_round = ?"
    return {found for (found,) in Ledger(run).connect().execute(query, [problem, round_index]).fetchall()}


def trained_on(run: Path, round_index: int) -> int:
    note = json.loads((run / f"rounds/{round_index:03d}/checkpoint/fit.json").read_text())
    return int(note["report"]["examples"]) + int(note["report"]["dropped_too_long"])


def most_solved(run: Path) -> str:
    query = "select problem_id from traces where split = 'train' and status = 'correct' group by 1"
    ((problem,), *_) = Ledger(run).connect().sql(f"{query} order by count(*) desc, 1").fetchall()
    return str(problem)


def test_a_wrong_reference_is_held_out_and_a_right_one_comes_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (_, first) = star_rft.run(write_config(tmp_path, rounds=1, **SMALL))
    problem = most_solved(run)
    assert "selected" in why(run, problem, 1)

    add(RunFolder(run).reviews, {problem: "wrong"})
    (*_, second) = star_rft.run(write_config(tmp_path, rounds=2, **SMALL))
    assert why(run, problem, 2) == {"quarantined"}
    assert (first.reference_solutions, second.reference_solutions) == (8, 7)
    assert [trained_on(run, r.round) for r in (first, second)] == [
        r.selected + r.reference_solutions for r in (first, second)
    ]
    assert second.classes["label_error"] == 1

    # The budget sees the suspect of the round before: its probe and no more.
    (*_, third) = star_rft.run(write_config(tmp_path, rounds=3, **SMALL))
    asked = (
        Ledger(run)
        .connect()
        .execute("select count(*) from samples where problem_id = ? and split = 'train' and round = 3", [problem])
    )
    assert asked.fetchall() == [(1,)]
    assert third.reference_solutions == 7

    add(RunFolder(run).reviews, {problem: "right"})
    (*_, fourth) = star_rft.run(write_config(tmp_path, rounds=4, **SMALL))
    assert "quarantined" not in why(run, problem, 4)
    assert fourth.reference_solutions == 8


def test_what_is_kept_on_request_is_trained_on(tmp_path: Path) -> None:
    keeping = SMALL | {"select": SMALL["select"] | {"label_errors": "keep"}}
    run = tmp_path / "run"
    list(star_rft.run(write_config(tmp_path, rounds=1, **keeping)))
    problem = most_solved(run)
    add(RunFolder(run).reviews, {problem: "wrong"})
    (*_, second) = star_rft.run(write_config(tmp_path, rounds=2, **keeping))
    assert second.reference_solutions == 8
    assert second.classes["label_error"] == 1
    assert "quarantined" not in why(run, problem, 2)
