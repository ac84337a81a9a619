"""The loop end to end, with the real model, sampler, verifier and trainer."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import star_rft
from star_rft.ledger import Ledger
from tests.jsonl import write_jsonl
from tests.small_runs import MINIATURE, call, command, environment, outcome, write_config


def test_a_round_leaves_what_the_design_promises(finished: Path) -> None:
    metrics = json.loads((finished / "rounds/002/metrics.json").read_text())
    promised = (
        "round pass_at_k pass_at_1_interval maj_at_k problems samples correct unknown selected coverage"
        " unsolved tokens seconds"
    )
    assert set(promised.split()) <= set(metrics)
    assert set(metrics["seconds"]) == {"sample", "verify", "select", "train", "evaluate", "other"}
    assert set(metrics["pass_at_k"]) == {"1", "4"}
    assert (metrics["problems"], metrics["samples"]) == (16, 64)
    for name in ("plan.parquet", "selection.parquet", "eval.parquet", "checkpoint"):
        assert (finished / "rounds/001" / name).exists()
    assert (finished / "report.html").exists()
    assert not (finished / "work").exists() or not any((finished / "work").iterdir())


def test_the_checkpoint_loads_and_differs_from_its_base(finished: Path) -> None:
    models: list[Any] = [AutoModelForCausalLM.from_pretrained(finished / f"rounds/00{i}/checkpoint") for i in (1, 2)]
    first, second = (model.get_input_embeddings().weight for model in models)
    assert not first.equal(second)


def test_every_planned_sample_is_in_the_ledger_once_and_belongs_to_its_model(finished: Path) -> None:
    con = Ledger(finished).connect()
    rows = con.sql(
        "select round, split, count(*), count(distinct (problem_id, sample_index, decode_id)), count(distinct model)"
        " from traces group by all order by all"
    ).fetchall()
    assert rows == [
        (0, "dev", 50, 50, 1),
        (1, "dev", 50, 50, 1),
        (1, "train", 64, 64, 1),
        (2, "dev", 50, 50, 1),
        (2, "train", 64, 64, 1),
    ]


def test_nothing_but_finished_correct_train_samples_is_trained_on(finished: Path) -> None:
    con = Ledger(finished).connect()
    rows = con.sql(
        "select distinct split, status, finish_reason from selection join traces using (sample_id) where is_selected"
    ).fetchall()
    assert rows == [("train", "correct", "stop")]


def test_running_a_finished_run_again_changes_nothing_and_is_quick(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    reports = list(star_rft.run(run))
    assert [report.round for report in reports] == [0, 1, 2]
    assert outcome(run) == outcome(finished)


def test_a_changed_config_is_refused_and_named(finished: Path) -> None:
    done = call("run", str(finished), "sample.temperature=0.3", cwd=finished)
    assert done.returncode == 2
    assert "sample.temperature: 1.0 -> 0.3" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_whose_weights_were_changed_is_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    weights = run / "rounds/001/checkpoint/model.safetensors"
    weights.write_bytes((finished / "rounds/002/checkpoint/model.safetensors").read_bytes())
    with pytest.raises(star_rft.UserError, match="not the model that round 1 recorded"):
        list(star_rft.run(run))


def has(pattern: str) -> Callable[[Path], bool]:
    return lambda run: any(run.glob(pattern))


# It is in the middle of a training: there is a checkpoint of the trainer's, and none of the round.
SAVES = has("work/001-checkpoint/**/*.safetensors")


def killed_when(config: Path, is_time: Callable[[Path], bool], *, delay: float) -> bool:
    """Start the run, kill it with SIGKILL `delay` seconds after the moment came, and say whether it still ran then."""
    process = subprocess.Popen(
        command("run", str(config), "--quiet"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not is_time(config.parent / "run"):
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_a_run_that_is_killed_while_it_trains_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    """The copy of a run that has drawn the samples of its first round and has trained on nothing yet."""
    run = shutil.copytree(finished, tmp_path / "run")
    for later in ("rounds/001/checkpoint", "rounds/002"):
        shutil.rmtree(run / later)
    for later in ("metrics.json", "eval.parquet", "eval_plan.parquet"):
        (run / "rounds/001" / later).unlink()
    config = write_config(tmp_path, rounds=1)
    assert killed_when(config, SAVES, delay=0.0)
    assert not (run / "rounds/001/checkpoint").exists()
    done = call("run", str(config), "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ends_as_its_first_round(outcome(run), outcome(finished))


def ends_as_its_first_round(run: dict[str, Any], whole: dict[str, Any]) -> None:
    assert run["metrics"] == whole["metrics"][:2]
    assert run["weights"] == {name: weights for name, weights in whole["weights"].items() if "/001/" in name}


def test_samples_of_a_finished_run_that_were_damaged_are_drawn_again_and_no_others(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = Ledger(run).units()
    parts = [min(run.glob(f"ledger/{pattern}")) for pattern in DAMAGED]
    for part in parts:
        os.truncate(part, part.stat().st_size - 7)
    told = call("ledger", str(run), cwd=tmp_path)
    assert told.returncode == 1
    assert "3 units were damaged and are not drawn again yet" in told.stderr
    assert "Traceback" not in told.stderr
    done = call("run", str(run), "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(run) == outcome(finished)
    after = Ledger(run).units()
    assert sorted(name for name in before if after[name] != before[name]) == sorted(part.stem for part in parts)
    assert call("ledger", str(run), "--check", cwd=tmp_path).returncode == 0


DAMAGED = ("samples/r000-dev-*.parquet", "verdicts/r001-train-*.parquet", "samples/r002-train-*.parquet")


@pytest.mark.full
def test_held_out_samples_that_are_damaged_before_the_round_is_summed_up_are_drawn_again(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "rounds/002/metrics.json").unlink()
    part = min(run.glob("ledger/verdicts/r002-dev-*.parquet"))
    os.truncate(part, part.stat().st_size - 7)
    done = call("run", str(run), "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(run) == outcome(finished)


def has_written_since(run: Path, *, began: float) -> bool:
    return any(path.stat().st_mtime > began for path in run.glob("*/**/*") if path.is_file())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_at_many_random_moments_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    rng = random.Random(1)
    kills = 0
    while not (tmp_path / "run/rounds/002/metrics.json").exists():
        began = time.time()
        kills += killed_when(config, partial(has_written_since, began=began), delay=rng.random())
    assert kills >= 4
    done = call("run", str(config), "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run") == outcome(finished)


@pytest.mark.full
def test_single_stages_add_up_to_the_same_round(finished: Path, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, rounds=1))
    refused = call("train", config, cwd=tmp_path)
    assert refused.returncode == 2
    assert "star-rft eval first" in refused.stderr
    for stage in ("eval", "sample", "select", "train", "eval"):
        done = call(stage, config, "--quiet", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    ends_as_its_first_round(outcome(tmp_path / "run"), outcome(finished))


def test_data_sets_can_be_given_in_memory(tmp_path: Path) -> None:
    rows = [{"q": f"Tom has {i} pens and buys 1 pen. How many pens has he now?", "a": i + 1} for i in range(2, 8)]
    columns = {"prompt": "q", "reference": "a"}
    settings = MINIATURE | {
        "run_dir": str(tmp_path / "run"),
        "rounds": 0,
        "data": {"dev": {"source": "-", "columns": columns}},
    }
    (report,) = star_rft.run(settings, data={"dev": rows})
    assert report.held_out is not None
    assert report.held_out.problems == 6


@pytest.mark.full
def test_a_round_without_a_correct_sample_fails_clearly_and_keeps_its_samples(tmp_path: Path) -> None:
    rows = [{"question": f"Box {i} holds 3 apples. How many is that?", "answer": "-77"} for i in range(4)]
    data = {"train": str(write_jsonl(tmp_path / "wrong.jsonl", rows)), "dev": MINIATURE["data"]["dev"]}
    config = write_config(tmp_path, data=data, rounds=1)
    done = call("run", str(config), "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing to train on" in done.stderr
    assert "Traceback" not in done.stderr
    assert any((tmp_path / "run/ledger/samples").glob("r001-train-*"))


def test_verifying_a_run_again_supersedes_its_verdicts(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    done = call("verify", str(copy), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no verdict changed" in done.stdout
    con = Ledger(copy).connect()
    assert con.sql("select count(*) from all_verdicts").fetchall() == [(2 * 278,)]
    assert con.sql("select count(*) from traces").fetchall() == [(278,)]


@pytest.mark.full
def test_reference_solutions_and_an_anchor_are_mixed_in_at_their_shares(tmp_path: Path) -> None:
    settings = MINIATURE | {
        "run_dir": str(tmp_path / "run"),
        "rounds": 1,
        "warm_start": {"lr": 1e-4, "max_steps": 2, "batch_size": 8},
        "select": {"reference_solutions": 0.5},
        "train": MINIATURE["train"] | {"from": "warm_start", "mix": 0.25, "weighting": "per_problem"},
        "eval": {"n": 1, "k": [1], "max_tokens": 96},
    }
    start, report = star_rft.run(settings)
    assert report.reference_solutions == 8
    assert report.anchor == round((report.selected + report.reference_solutions) / 3)
    assert (tmp_path / "run/warm_start/config.json").exists()
    assert start.kl["own"] == 0 < report.kl["own"]  # the warm start is where the loop begins, not how far it went
