"""Rounds that are sampled wave by wave: what each plan asks of a real run, and that it resumes like everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import star_rft
from star_rft.build import open_run, settle
from star_rft.errors import RunError
from star_rft.ledger import Ledger
from star_rft.loop import do_stage
from tests.small_models import copy_of_tiny
from tests.small_runs import EVALUATED_ONCE, FEW_PROBLEMS, outcome, write_config

SAMPLE = {"n": 12, "max_tokens": 96, "unit": 16, "batch_size": 16}
SMALL: dict[str, Any] = {
    "rounds": 1,
    "sample": SAMPLE,
    "train": {"max_steps": 1, "batch_size": 4, "lr": 1e-4},
    "eval": EVALUATED_ONCE,
}


def run(folder: Path, **changes: Any) -> Path:
    list(star_rft.run(write_config(folder, **SMALL | changes)))
    return folder / "run"


def asked(run: Path) -> list[tuple[int, int, int]]:
    """Return, a problem: samples, distinct correct traces, and correct ones that ended by themselves."""
    return (
        Ledger(run)
        .connect()
        .sql(
            "select count(*), count(distinct equation_key) filter (status = 'correct' and finish_reason = 'stop'),"
            " count(*) filter (status = 'correct') from traces where split = 'train' group by problem_id"
        )
        .fetchall()
    )


@pytest.mark.full
def test_an_adaptive_round_stops_where_the_target_is_met_and_goes_on_elsewhere(tmp_path: Path) -> None:
    found = asked(run(tmp_path, budget={"plan": "adaptive", "target": 2, "probe": 3}))
    assert len(found) == 16
    assert all(3 <= samples <= 12 for samples, _, _ in found)
    assert all(samples == 12 for samples, distinct, _ in found if distinct == 0)
    assert any(samples < 12 for samples, _, _ in found)
    # At most twice what it has: a problem that had its two by the probe was asked nothing more.
    assert all(distinct >= 2 or samples > 3 for samples, distinct, _ in found)


@pytest.mark.full
def test_uniform_goes_on_until_so_many_are_correct(tmp_path: Path) -> None:
    found = asked(run(tmp_path, budget={"plan": "uniform", "target": 2, "probe": 2}))
    assert all(correct >= 2 or samples == 12 for samples, _, correct in found)
    assert any(samples < 12 for samples, _, _ in found)


@pytest.mark.full
@pytest.mark.parametrize("plan", ["fixed", "adaptive", "uniform", "prop2diff"])
def test_the_tokens_of_a_round_are_never_exceeded(plan: str, tmp_path: Path) -> None:
    budget = {"plan": plan, "tokens": 600, "probe": 1}
    sample = SAMPLE | {"models": ["policy", "tiny"], "max_tokens": 48}
    changes: dict[str, Any] = {"budget": budget, "sample": sample, "data": FEW_PROBLEMS}
    if plan == "adaptive":
        changes["rationalize"] = {"n": 3}
    con = Ledger(run(tmp_path, **changes)).connect()
    ((tokens, problems),) = con.sql(
        "select sum(tokens), count(distinct problem_id) from samples where split = 'train'"
    ).fetchall()
    assert 400 < tokens <= 600
    # Not by luck: a wave reserves what its requests may take at most, of all models together.
    assert pq.read_metadata(tmp_path / "run/rounds/001/plan.parquet").num_rows * 48 <= 600
    assert problems == 8 or plan == "fixed"  # every problem has its probe; fixed k serves whole problems


@pytest.mark.full
def test_another_model_is_asked_only_for_what_is_left_unsolved(tmp_path: Path) -> None:
    models = ["policy", copy_of_tiny(tmp_path, 1)]
    sample = SAMPLE | {"n": 4, "models": models, "temperature": 1.3}
    con = Ledger(run(tmp_path, sample=sample, budget={"plan": "adaptive", "probe": 2})).connect()
    rows = con.sql(
        "select count(*) filter (sample_index < 4), count(*) filter (sample_index >= 4),"
        " count(*) filter (sample_index < 4 and status = 'correct' and finish_reason = 'stop')"
        " from traces where split = 'train' group by problem_id"
    ).fetchall()
    assert {other > 0 for _, other, correct in rows if correct} == {False}
    assert {(own, other > 0) for own, other, correct in rows if not correct} == {(4, True)}


@pytest.mark.full
def test_a_pooled_model_may_be_the_policys_own_base(tmp_path: Path) -> None:
    """The two have one fingerprint in round 1: whose samples are whose is told by the samples."""
    sample = SAMPLE | {"n": 2, "models": ["policy", "tiny"]}
    con = Ledger(run(tmp_path, sample=sample)).connect()
    rows = con.sql("select sample_index, count(*) from samples where split = 'train' group by 1 order by 1").fetchall()
    assert rows == [(0, 16), (1, 16), (2, 16), (3, 16)]
    counted = con.sql('select distinct samples, "foreign" from frontier').fetchall()
    assert counted == [(2, 2)]


@pytest.mark.full
def test_a_round_that_is_stopped_between_and_within_waves_ends_the_same(tmp_path: Path) -> None:
    changes = SMALL | {
        "budget": {"plan": "adaptive", "target": 3, "probe": 2},
        "data": FEW_PROBLEMS,
        "sample": SAMPLE | {"unit": 8},
    }
    whole = run(tmp_path / "whole", **changes)
    path = write_config(tmp_path / "parts", **changes)
    units = 0
    while True:
        with open_run(settle(path)) as stages:
            policy = stages.training.start()
            if units == 0:
                stages.evaluation.evaluate(0, policy)
                stages.evaluation.record(0, policy)
            wave = stages.sampling.plan(1, policy)
            if not wave:
                break
            with pytest.raises(RunError, match="no complete samples yet"):
                do_stage(stages, "select")
            missing = [unit for unit in wave if unit.name not in stages.context.ledger.units()]
            stages.sampling.sample(1, missing[:1], policy)
            units += 1
    assert units > 4
    list(star_rft.run(path))
    assert outcome(whole) == outcome(tmp_path / "parts" / "run")
