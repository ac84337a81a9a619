"""Another run that begins with what one has already."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from star_rft.ledger import Ledger, compaction
from star_rft.ledger.manifest import Manifest
from tests.small_runs import call, outcome, write_config


def forked(source: Path, name: str, *overrides: str, samples: int = 64) -> Path:
    done = call("fork", str(source), name, *overrides, "--json", cwd=source.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"run": name, "samples": samples}
    return source.parent / name


def run_on(fork: Path) -> None:
    done = call("run", str(fork), "--quiet", cwd=fork.parent)
    assert done.returncode == 0, done.stderr


def copied(finished: Path, folder: Path) -> Path:
    return Path(shutil.copytree(finished, folder / "run"))


def inodes(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in run.glob("ledger/samples/*")}


@pytest.mark.full
def test_a_fork_that_changes_nothing_ends_as_its_source_and_draws_no_sample_of_the_first_round(
    finished: Path, tmp_path: Path
) -> None:
    source = copied(finished, tmp_path)
    (source / "reviews.jsonl").touch()  # which both go on to write into
    fork = forked(source, "same")
    assert not (fork / "reviews.jsonl").samefile(source / "reviews.jsonl")
    shared = inodes(fork)
    assert shared == {
        name: inode for name, inode in inodes(source).items() if name.startswith(("r000-dev-", "r001-train-"))
    }
    shutil.rmtree(source)
    run_on(fork)
    assert outcome(fork) == outcome(finished)
    assert inodes(fork).items() >= shared.items()


def test_units_that_were_put_together_are_told_apart(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    manifest = Manifest(source / "ledger", mends=True)
    compaction.compact(manifest, small=150, enough=2)
    assert any("compacted" in line for line in manifest.groups.values())
    fork = forked(source, "same")
    rows = Ledger(fork).connect().sql("select round, split, count(*) from traces group by all order by all").fetchall()
    assert rows == [(0, "dev", 50), (1, "train", 64)]
    assert call("ledger", str(fork), "--check", cwd=tmp_path).returncode == 0


def test_what_is_damaged_in_the_source_is_left_to_the_fork_to_draw(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    min(source.glob("ledger/verdicts/r001-train-*")).unlink()
    done = call("fork", str(source), "mended", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["samples"] == 48
    assert "is missing" in done.stderr


def test_newer_verdicts_come_along_and_the_newest_still_win(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    assert call("verify", str(source), cwd=tmp_path).returncode == 0
    fork = forked(source, "judged")
    newest = "select max(ordinal) from verdicts"
    ((before,),) = Ledger(fork).connect().sql(newest).fetchall()
    assert call("verify", str(fork), cwd=tmp_path).returncode == 0
    ((after,),) = Ledger(fork).connect().sql(newest).fetchall()
    assert after > before > 0


@pytest.mark.full
def test_other_rules_and_another_seed_train_on_the_same_samples(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    fork = forked(source, "first", "select.rules=[{first_samples: 1}, correct]", "seed=7", "rounds=1")
    run_on(fork)
    con = Ledger(fork).connect()
    why = con.sql(
        "select sample_index, why, count(*) from selection join samples using (sample_id) group by all"
    ).fetchall()
    assert {sample_index for sample_index, kept, _ in why if kept == "selected"} == {0}
    assert {kept for sample_index, kept, _ in why if sample_index > 0} == {"later_sample"}
    assert f"forked_from: {source}" in (fork / "config.yaml").read_text()


@pytest.mark.full
def test_a_fork_that_samples_otherwise_begins_after_round_0_and_ends_as_a_run_of_its_own(
    finished: Path, tmp_path: Path
) -> None:
    source = copied(finished, tmp_path)
    shutil.rmtree(source / "rounds/001")  # it needs no more of its source than round 0
    changes = ["sample.n=2", "budget.plan=adaptive", "budget.probe=1", "rounds=1"]
    fork = forked(source, "fewer", *changes, samples=0)
    rows = Ledger(fork).connect().sql("select round, split, count(*) from traces group by all").fetchall()
    assert rows == [(0, "dev", 50)]
    shared = inodes(fork)
    assert shared
    assert shared.items() <= inodes(source).items()
    run_on(fork)
    assert inodes(fork).items() >= shared.items()
    config = str(write_config(tmp_path / "alone"))
    done = call("run", config, *changes, f"run_dir={tmp_path / 'alone/run'}", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outcome(fork) == outcome(tmp_path / "alone/run")


@pytest.mark.full
def test_a_warm_start_is_not_trained_again(tmp_path: Path) -> None:
    warm = {"data": {"source": "word_problems", "options": {"n": 8, "seed": 3, "steps": [1, 1]}}, "epochs": 1}
    config = write_config(tmp_path, warm_start=warm, rounds=0)
    assert call("run", str(config), "--quiet", cwd=tmp_path).returncode == 0
    fork = forked(tmp_path / "run", "hotter", "sample.temperature=0.5", "rounds=1", samples=0)
    assert call("sample", str(fork), cwd=tmp_path).returncode == 0
    weights = "warm_start/model.safetensors"
    assert (fork / weights).samefile(tmp_path / "run" / weights)


def test_a_fork_whose_held_out_samples_would_be_others_is_refused(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    for change, said in [
        ("eval.temperature=0.3", "eval.temperature: 1.0 -> 0.3"),
        ("sample.backend=vllm", "sample.backend: 'hf' -> 'vllm'"),
    ]:
        done = call("fork", str(source), "other", change, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert "seed, select, train, preference, sample, budget, temperature_search and rationalize" in done.stderr
        assert not (tmp_path / "other").exists()


def test_a_fork_takes_no_ones_place_and_needs_a_selected_round(finished: Path, tmp_path: Path) -> None:
    source = copied(finished, tmp_path)
    done = call("fork", str(source), "run", cwd=tmp_path)
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    (source / "rounds/001/selection.parquet").unlink()
    done = call("fork", str(source), "early", cwd=tmp_path)
    assert (done.returncode, "not sampled and selected yet" in done.stderr) == (2, True)
    (source / "rounds/000/metrics.json").unlink()
    done = call("fork", str(source), "early", "sample.n=2", cwd=tmp_path)
    assert (done.returncode, "round 0 is not finished yet" in done.stderr) == (2, True)
    done = call("fork", str(tmp_path / "none"), "early", cwd=tmp_path)
    assert (done.returncode, "is not a run folder" in done.stderr) == (2, True)
    assert not (tmp_path / "early").exists()
