"""Controls that really train beside a finished round of a run at a small scale."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import star_rft
from star_rft.build import open_run, settle
from star_rft.cli import app
from star_rft.errors import RunError, UserError
from star_rft.experiments.contributions import contributions_of
from star_rft.experiments.controls import NAMES, Lineage, chosen_names, chosen_round, impossible, make
from star_rft.files import locked
from star_rft.ledger import Ledger
from star_rft.recipes import recipe_files
from star_rft.runs.folder import RunFolder

QUICKSTART = next(path for path in recipe_files() if path.stem == "quickstart")
TRAIN, DEV = 32, 10
SMALL: dict[str, Any] = {
    "rounds": 2,
    "sample.unit": 64,
    "sample.n": 4,
    "data.train.options": {"n": TRAIN, "seed": 1, "steps": [1, 2]},
    "data.dev.options": {"n": DEV, "seed": 2, "steps": [1, 2]},
    "train.batch_size": 16,
    "eval.n": 4,
    "eval.k": [1, 4],
    "eval.max_tokens": 64,
    "eval.kl_traces": 0,
    "verifier.workers": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, and all controls of its second one."""
    folder = tmp_path_factory.mktemp("controls") / "run"
    list(star_rft.run(QUICKSTART, SMALL | {"run_dir": str(folder)}))
    before = content(folder)
    said = controls(folder)
    assert content(folder) == before, "the run itself has changed"
    assert set(said["left_out"]) == set()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "controls" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def controls(folder: Path, *arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["controls", str(folder), "--json", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def selected(home: Path, round_index: int) -> list[str]:
    table = pq.read_table(RunFolder(home).selection(round_index), filters=[("is_selected", "=", True)])
    return sorted(table["sample_id"].to_pylist())


def statuses(folder: Path, ids: list[str]) -> dict[str, int]:
    query = "select status, count(*) from traces where list_contains(?, sample_id) group by 1"
    return dict(Ledger(folder).connect().execute(query, [ids]).fetchall())


def suspects(run: Path) -> set[str]:
    query = "select problem_id from frontier where in_round = 2 and class = 'label_error'"
    return {row[0] for row in Ledger(run).connect().sql(query).fetchall()}


def metrics(run: Path, name: str, seed: int = 0) -> dict[str, Any]:
    return dict(json.loads((RunFolder(run).control(name, 2, seed) / "metrics.json").read_text()))


@pytest.mark.full
def test_random_traces_are_as_many_as_were_selected_and_right_or_wrong(run: Path) -> None:
    own, drawn = selected(run, 2), selected(RunFolder(run).control("random", 2, 0), 2)
    assert len(drawn) == len(own)
    assert set(statuses(run, own)) == {"correct"}
    assert set(statuses(run, drawn)) == {"correct", "incorrect"}


@pytest.mark.full
def test_problems_that_are_held_out_stay_out(run: Path) -> None:
    assert suspects(run)
    for name in ("random", "no_dedup"):
        query = "select distinct problem_id from samples where list_contains(?, sample_id)"
        drawn = selected(RunFolder(run).control(name, 2, 0), 2)
        assert not suspects(run) & {row[0] for row in Ledger(run).connect().execute(query, [drawn]).fetchall()}


@pytest.mark.full
def test_without_dedup_as_many_correct_traces_are_drawn_and_some_say_the_same(run: Path) -> None:
    own, drawn = selected(run, 2), selected(RunFolder(run).control("no_dedup", 2, 0), 2)
    assert statuses(run, drawn) == {"correct": len(own)}
    assert drawn != own


@pytest.mark.full
def test_steps_and_start_are_those_of_the_round(run: Path) -> None:
    taken = [json.loads((RunFolder(run).checkpoint(r) / "fit.json").read_text())["report"] for r in (1, 2)]
    for name in ("random", "no_dedup", "reference_solutions"):
        assert (metrics(run, name)["steps"], metrics(run, name)["started_from"]) == (taken[1]["steps"], 1)
    assert metrics(run, "random")["examples"] == metrics(run, "no_dedup")["examples"] == taken[1]["examples"]
    assert metrics(run, "reference_solutions")["examples"] == TRAIN - len(suspects(run))
    at_once = metrics(run, "at_once")
    assert (at_once["steps"], at_once["started_from"]) == (taken[0]["steps"] + taken[1]["steps"], 0)


@pytest.mark.full
def test_all_samples_at_once_are_as_many_as_the_rounds_drew_and_of_the_first_model(run: Path) -> None:
    home = RunFolder(run).control("at_once", 2, 0)
    query = "select model, count(*) from samples where split = 'train' group by model"
    ((model, count),) = Ledger(home).connect().sql(query).fetchall()
    ((first,),) = Ledger(run).connect().sql("select distinct model from samples where round = 0").fetchall()
    assert (model, count) == (first, 2 * TRAIN * 4)
    assert metrics(run, "at_once")["samples"] == count


@pytest.mark.full
def test_each_control_is_asked_exactly_what_the_round_was_asked(run: Path) -> None:
    query = (
        "select problem_id, sample_index, decode_id, seed from samples where split = 'dev' and round = 2 order by all"
    )
    asked = Ledger(run).connect().sql(query).fetchall()
    assert len(asked) == DEV * (4 + 1)
    for name in NAMES:
        assert Ledger(RunFolder(run).control(name, 2, 0)).connect().sql(query).fetchall() == asked


@pytest.mark.full
def test_models_differ_and_the_difference_is_paired_by_problem(run: Path) -> None:
    lineage = Lineage(RunFolder(run), "last", False)
    found = contributions_of(RunFolder(run), lineage, round_index=2, names=NAMES, seeds=[0], run_seed=0, batch_size=16)
    assert len({found.of_round.cost.model, *(row.cost.model for row in found.controls)}) == 5
    for row, contribution in zip(found.controls, found.contributions, strict=True):
        lead = found.of_round.pass_at_1.value - row.pass_at_1.value
        assert contribution.control == row.cost.name
        assert contribution.pass_at_1.value == pytest.approx(lead)
        assert row.vs_start is not None
    assert found.start is not None
    gain = found.of_round.pass_at_1.value - found.start.value
    assert found.of_round.vs_start is not None
    assert found.of_round.vs_start.value == pytest.approx(gain)
    assert found.loop.samples == 2 * TRAIN * 4
    assert found.loop.examples == sum(len(selected(run, round_index)) for round_index in (1, 2))


@pytest.mark.full
def test_a_second_call_only_prints_even_while_the_run_goes_on(run: Path) -> None:
    with locked(run):
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
        done = CliRunner().invoke(app, ["controls", str(run), "--round", "2"], env={"COLUMNS": "80"})
        assert {path: path.stat().st_mtime_ns for path in before} == before
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "verification: " in said
    assert "pass@1" in said
    assert f"Not equal: at_once drew {2 * TRAIN * 4} samples" in said


@pytest.mark.full
def test_what_was_interrupted_is_done_again_to_the_same_end(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    before = metrics(copy, "random"), metrics(copy, "at_once")
    for name in ("random", "at_once"):
        home = RunFolder(RunFolder(copy).control(name, 2, 0))
        (home.path / "metrics.json").unlink()
        home.eval(2).unlink()
    shutil.rmtree(RunFolder(RunFolder(copy).control("random", 2, 0)).checkpoint(2))
    controls(copy, "--only", "random,at_once")
    assert (metrics(copy, "random"), metrics(copy, "at_once")) == before


@pytest.mark.full
def test_with_the_selection_of_the_round_a_control_is_the_round(run: Path, tmp_path: Path) -> None:
    """So nothing but what it trains on tells them apart: not the start, the steps, the seeds or the evaluation."""
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run, copy.path, symlinks=True)
    home = RunFolder(copy.control("random", 2, 0))
    shutil.rmtree(home.path)
    home.round(2).mkdir(parents=True)
    shutil.copy(copy.selection(2), home.selection(2))
    found = controls(copy.path, "--only", "random")
    (control,) = found["controls"]
    assert control["cost"]["model"] == found["of_round"]["cost"]["model"]
    assert found["contributions"][0]["pass_at_1"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.full
def test_the_files_of_a_controls_model_list_the_ends_of_the_run(tmp_path: Path) -> None:
    """So an engine that reads a checkpoint's files alone stops where it stops with the round's."""
    run, padding = RunFolder(tmp_path / "run"), 0
    few = {"rounds": 1, "data.train.options.n": 8, "data.dev.options.n": 4, "sample.stop_token_ids": [padding]}
    list(star_rft.run(QUICKSTART, SMALL | few | {"run_dir": str(run.path)}))
    controls(run.path, "--only", "random")
    home = RunFolder(run.control("random", 1, 0))
    ends = [json.loads((one.checkpoint(1) / "generation_config.json").read_text()) for one in (run, home)]
    assert padding in ends[0]["eos_token_id"]
    assert ends[0] == ends[1]
    shared = {"problems.parquet", "base_model", "warm_start"} & {path.name for path in home.path.iterdir()}
    assert shared == {"problems.parquet"}  # models may be large, and are read where the run has them


@pytest.mark.full
def test_another_seed_draws_and_trains_anew_and_the_sentence_is_of_their_mean(run: Path) -> None:
    found = controls(run, "--only", "random", "--seed", "0", "--seed", "7")
    one, other = found["controls"]
    assert [one["cost"]["seed"], other["cost"]["seed"]] == [0, 7]
    assert one["cost"]["model"] != other["cost"]["model"]
    mean = (one["pass_at_1"]["value"] + other["pass_at_1"]["value"]) / 2
    lead = found["of_round"]["pass_at_1"]["value"] - mean
    assert found["contributions"][0]["pass_at_1"]["value"] == pytest.approx(lead)


@pytest.mark.full
def test_a_round_after_a_rolled_back_one_starts_from_the_better_model(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for round_index, model_round in ((0, None), (1, 0), (2, 2), (3, 3)):
        raw = json.loads(RunFolder(run).metrics(min(round_index, 2)).read_text())
        gate = None if model_round is None else {"model_round": model_round}
        folder.round(round_index).mkdir(parents=True)
        folder.metrics(round_index).write_text(json.dumps(raw | {"round": round_index, "gate": gate}))
    from_last = Lineage(folder, "last", True)
    assert [from_last.before(round_index) for round_index in (1, 2, 3)] == [0, 0, 2]
    assert (from_last.rounds(3), from_last.rounds(1)) == ([3, 2], [1])
    assert Lineage(folder, "base", True).before(3) is None
    assert (Lineage(folder, "warm_start", True).before(3), Lineage(folder, "base", False).rounds(3)) == (0, [3])


@pytest.mark.full
def test_mistakes_name_what_is_valid(run: Path, tmp_path: Path) -> None:
    folder = RunFolder(run)
    assert chosen_round(folder, None) == 2
    with pytest.raises(RunError, match="has no finished round 9 that trained; finished are 1, 2"):
        chosen_round(folder, 9)
    with pytest.raises(RunError, match="no round has trained and finished yet: star-rft run"):
        chosen_round(RunFolder(tmp_path), None)
    with pytest.raises(
        UserError, match="there is no control 'noise'; valid are random, no_dedup, reference_solutions, at_once"
    ):
        chosen_names("random,noise", {})
    without = impossible(folder, 1, is_greedy=False)
    assert chosen_names(None, without) == ["random", "no_dedup", "reference_solutions"]
    with pytest.raises(UserError, match="--only at_once: cannot be made for this round: round 1 is one round"):
        chosen_names("at_once", without)
    assert "temperature 0" in impossible(folder, 2, is_greedy=True)["at_once"]


@pytest.mark.full
def test_without_reference_solutions_that_control_is_left_out(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "ledger", tmp_path / "ledger")
    table = pq.read_table(run / "problems.parquet")
    at = table.column_names.index("solution")
    pq.write_table(table.set_column(at, "solution", [[None] * len(table)]), tmp_path / "problems.parquet")
    assert impossible(RunFolder(tmp_path), 2, is_greedy=False) == {
        "reference_solutions": "no train problem has a reference solution"
    }


def test_a_run_that_trains_by_preference_only_is_told_so(tmp_path: Path) -> None:
    changes = {"train": None, "preference": {"from": "last"}, "select.rules": ["correct", {"pairs": {}}]}
    config = settle(QUICKSTART, SMALL | changes | {"run_dir": str(tmp_path / "run")})

    def never(config: star_rft.Config) -> Any:
        raise AssertionError(config)

    with open_run(config) as stages, pytest.raises(RunError, match="trains by preference only"):
        make(stages, round_index=1, names=["random"], seeds=[0], open_run=never)


def test_the_command_has_help_with_an_example() -> None:
    done = CliRunner().invoke(app, ["controls", "--help"])
    assert "Example: star-rft controls" in done.stdout
