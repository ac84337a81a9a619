"""Runs that really train and really get worse, or no better: what the gate does about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import star_rft
from star_rft.ledger import Ledger
from star_rft.recipes import recipe_files
from star_rft.types import RoundReport

pytestmark = pytest.mark.full

QUICKSTART = next(path for path in recipe_files() if path.stem == "quickstart")
# One step at a wild rate on one trace a prompt of six: the lucky few that the model happens to solve.
COLLAPSING: dict[str, Any] = {
    "rounds": 2,
    "sample.problems": 6,
    "sample.n": 4,
    "select.rules": ["correct", {"cap": 1}],
    "train.lr": 0.1,
    "train.epochs": None,
    "train.max_steps": 2,
    "gate.patience": None,
}
SATURATED: dict[str, Any] = {
    "rounds": 5,
    "data.train.options.steps": [1, 1],
    "data.dev.options.steps": [1, 1],
    "sample.temperature": 0.1,
    "sample.n": 4,
    "eval.temperature": 0.3,
    "train.lr": 1e-6,
    "gate.patience": 2,
    "gate.saturation": 0.8,
}


def run(folder: Path, **changes: Any) -> list[RoundReport]:
    small = {"run_dir": str(folder), "sample.unit": 256, "data.train.options.n": 24, "data.dev.options.n": 30}
    small |= {"eval.n": 4, "eval.k": [1, 4], "eval.max_tokens": 64, "eval.kl_traces": 0, "sample.max_tokens": 96}
    return list(star_rft.run(QUICKSTART, small | changes))


def models(folder: Path) -> list[str]:
    """Return the model that drew the train samples of each round."""
    con = Ledger(folder).connect()
    rows = con.sql("select distinct round, model from samples where split = 'train' order by round").fetchall()
    assert [round_index for round_index, _ in rows] == list(range(1, len(rows) + 1))
    return [model for _, model in rows]


def test_a_collapsed_round_is_rolled_back_and_the_next_one_goes_on_from_the_better_model(tmp_path: Path) -> None:
    base, first, second = run(tmp_path / "run", **COLLAPSING)
    assert first.gate is not None
    assert first.pass_at_1 is not None
    assert first.pass_at_1 < 0.1 < (base.pass_at_1 or 0)
    assert (first.gate["action"], first.gate["model_round"], first.gate["rolled_back"]) == ("roll_back", 0, True)
    assert "pass@1 fell" in first.gate["rule"]
    assert first.gate["evidence"]["pass_at_1"]["high"] < 0
    assert models(tmp_path / "run") == [base.model, base.model]
    assert second.model != first.model
    # The decision stands in metrics.json: a run that goes on later goes on from the same model.
    (*_, third) = run(tmp_path / "run", **COLLAPSING | {"rounds": 3})
    assert third.round == 3
    assert models(tmp_path / "run") == [base.model] * 3


def test_a_saturated_run_stops_and_goes_on_when_told_to(tmp_path: Path) -> None:
    reports = run(tmp_path / "run", **SATURATED)
    last = reports[-1]
    assert [report.round for report in reports] == [0, 1, 2]
    assert last.gate is not None
    assert last.gate["action"] == "stop"
    assert "2 evaluated rounds in a row without a significant gain" in last.gate["rule"]
    assert any("saturation" in warning for warning in last.gate["warnings"])
    assert last.diversity["saturated_share"] > 0.8
    assert [r.round for r in run(tmp_path / "run", **SATURATED | {"gate.patience": 3})] == [0, 1, 2, 3]
