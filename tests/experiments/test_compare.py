"""Runs and rounds compared by their held-out rows: pairing, seeds, rounds, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from star_rft.cli.app import app
from star_rft.errors import UserError
from star_rft.evaluation.evaluate import EVAL
from star_rft.experiments.compare import compare
from star_rft.files import write_table
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import write_report
from star_rft.statistics import crossed, paired
from star_rft.types import RoundReport
from tests.small_ledgers import sample, verdict

N = 4
Correct = Mapping[str, int]  # of N samples, by problem


def row(problem: str, correct: int, *, n: int = N) -> dict[str, Any]:
    outcomes = [place < correct for place in range(n)]
    return {
        "split": "dev", "problem_id": problem, "group": None, "n": n, "correct": correct, "unknown": 0, "truncated": 0,
        "tokens": 10, "answers": ["1" if right else "2" for right in outcomes], "is_correct": outcomes,
        "greedy_correct": correct * 2 > n,
    }  # fmt: skip


def make(
    folder: Path, rounds: Sequence[Correct], *, seed: int = 0, best: int | None = None, n: int = N, **settings: Any
) -> str:
    """Write what a comparison reads of a run; `best` is the round that the gate says to use."""
    config = {
        "name": folder.name, "run_dir": str(folder), "seed": seed, "rounds": len(rounds) - 1,
        "prompt": {"template": "{question}"}, "verifier": {"name": "math", "workers": None},
        "eval": {"k": [1, N], "n": n, "temperature": 1.0}, "train": {"lr": 1e-5},
    } | settings  # fmt: skip
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    for number, correct in enumerate(rounds):
        rows = [row(problem, count, n=n) for problem, count in correct.items()]
        run.round(number).mkdir(parents=True)
        write_table(run.eval(number), pa.Table.from_pylist(rows, schema=EVAL))
        gate = {"action": "keep", "model_round": number if best is None else best, "warnings": [], "rolled_back": False}
        write_report(run.metrics(number), RoundReport(number, "m", len(rows), gate=gate))
    return str(folder)


BEFORE = {f"p{i}": i % 3 for i in range(30)}
AFTER = {f"p{i}": min(N, i % 3 + i % 2) for i in reversed(range(30))}
OTHER: dict[str, Any] = {"train": {"lr": 1e-4}}


def pass_1(correct: Correct) -> list[float]:
    return [correct[problem] / N for problem in sorted(correct)]


def test_two_runs_are_paired_by_problem_whatever_their_order(tmp_path: Path) -> None:
    found = compare([make(tmp_path / "a", [BEFORE]), make(tmp_path / "b", [AFTER], **OTHER)])
    assert (found.split, found.problems, found.n, found.notes) == ("dev", 30, N, ())
    assert found.measures == ("pass@1", f"pass@{N}", f"maj@{N}", "greedy")
    assert found.models[1].differences["pass@1"] == paired(pass_1(AFTER), pass_1(BEFORE))
    assert found.models[0].differences == {}
    assert found.models[1].scores["greedy"].value == pytest.approx(sum(c * 2 > N for c in AFTER.values()) / 30)


def test_one_run_alone_is_all_its_evaluated_rounds(tmp_path: Path) -> None:
    found = compare([make(tmp_path / "a", [BEFORE, AFTER])])
    assert [(model.name, model.rounds) for model in found.models] == [("round 0", (0,)), ("round 1", (1,))]


def test_of_a_run_the_model_counts_that_its_gate_says_to_use(tmp_path: Path) -> None:
    found = compare([make(tmp_path / "a", [BEFORE, AFTER], best=0), make(tmp_path / "b", [BEFORE, AFTER], **OTHER)])
    assert [model.rounds for model in found.models] == [(0,), (1,)]


@pytest.mark.parametrize("form", ["{}:1", "{}/rounds/001", "{}/rounds/001/", "{}/rounds/001/checkpoint"])
def test_a_round_is_named_as_it_lies_or_after_a_colon(form: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", [BEFORE, AFTER])
    found = compare([f"{folder}:0", form.format(folder)])
    assert [model.rounds for model in found.models] == [(0,), (1,)]


def test_runs_that_differ_by_seed_only_are_one_method(tmp_path: Path) -> None:
    """Intervals are then over problems and seeds, and no single seed is compared with another."""
    rng = np.random.default_rng(0)
    several = [{p: int(rng.integers(0, N + 1)) for p in BEFORE} for _ in range(3)]
    one = make(tmp_path / "one", [BEFORE], **OTHER)
    runs = [make(tmp_path / f"many-{seed}", [correct], seed=seed) for seed, correct in enumerate(several)]
    found = compare([one, *runs])
    assert [(model.name, model.seeds) for model in found.models] == [("one", (0,)), ("many-0 (3 seeds)", (0, 1, 2))]
    expected = crossed(np.array([pass_1(correct) for correct in several]), np.array([pass_1(BEFORE)]))
    assert found.models[1].differences["pass@1"] == expected


def test_unlike_rounds_of_two_seeds_are_not_one_method(tmp_path: Path) -> None:
    first, other = (make(tmp_path / f"seed-{seed}", [BEFORE, AFTER], seed=seed) for seed in (0, 1))
    assert [model.rounds for model in compare([f"{first}:0", other]).models] == [(0,), (1,)]
    assert [model.rounds for model in compare([f"{first}:0", f"{other}:0", first]).models] == [(0, 0), (1,)]


def test_seeds_of_other_days_machines_and_servers_are_one_method(tmp_path: Path) -> None:
    """What may change while a run goes on, and the day that a chat template is told, is no part of the method."""
    days = ({"date": "2026-01-01", "template": "{question}"}, {"date": "2026-01-02", "template": "{question}"})
    runs = [
        make(tmp_path / f"seed-{seed}", [AFTER], seed=seed, prompt=day, server={"url": str(seed)},
             verifier={"name": "math", "workers": seed + 1})
        for seed, day in enumerate(days)
    ]  # fmt: skip
    found = compare([make(tmp_path / "base", [BEFORE], prompt=days[0], **OTHER), *runs])
    assert [model.seeds for model in found.models] == [(0,), (0, 1)]
    assert found.notes == ()


def add_prompts(run: str, prompt: str) -> None:
    """Write held-out samples of round 0 into the ledger, which say by a hash what the model was sent."""
    pairs = [(replace(sample(p, 0, round_index=0, split="dev"), prompt_sha=prompt), verdict("correct")) for p in BEFORE]
    Ledger(Path(run), is_writer=True).commit("r000-dev-000000", pairs, seconds={})


def test_the_date_of_prompts_is_noted_where_the_chat_template_prints_it(tmp_path: Path) -> None:
    """What the models were sent tells: a template that prints no date gives the same prompts on all days."""
    days = ({"date": "2026-01-01", "template": "{question}"}, {"date": "2026-01-02", "template": "{question}"})
    runs = [make(tmp_path / name, [BEFORE], prompt=days[0]) for name in ("plain", "dated")]
    runs += [make(tmp_path / f"{name}-later", [AFTER], prompt=days[1], **OTHER) for name in ("plain", "dated")]
    for run, prompt in zip(runs, ["same", "first day", "same", "second day"], strict=True):
        add_prompts(run, prompt)
    plain, dated, plain_later, dated_later = runs
    assert compare([plain, plain_later]).notes == ()
    (note,) = compare([dated, dated_later]).notes
    assert note.endswith("prompt.date '2026-01-01' and '2026-01-02'")


def test_other_prompts_of_another_model_do_not_blame_the_date(tmp_path: Path) -> None:
    """Another model has another chat template, and each run has the day on which it began."""
    first = make(tmp_path / "a", [BEFORE], model={"name": "a"}, prompt={"date": "2026-01-01"})
    other = make(tmp_path / "b", [AFTER], model={"name": "b"}, prompt={"date": "2026-01-02"})
    for run in (first, other):
        add_prompts(run, run)
    assert compare([first, other]).notes == ()


def test_a_run_that_is_not_finished_is_noted(tmp_path: Path) -> None:
    runs = [make(tmp_path / f"seed-{seed}", [BEFORE, AFTER], seed=seed) for seed in (0, 1)]
    shutil.rmtree(tmp_path / "seed-1" / "rounds" / "001")
    found = compare([make(tmp_path / "base", [BEFORE], **OTHER), *runs])
    assert found.models[1].rounds == (1, 0)
    assert found.notes == (f"{runs[1]} is not finished (round 1 of 1: sampling); its model is that of round 0",)


def test_keys_that_only_the_later_run_has_are_noted_and_the_k_of_reports_are_not(tmp_path: Path) -> None:
    few = {"k": [1], "n": N, "temperature": 1.0, "group_by": "steps"}
    verifier = {"name": "math", "workers": None, "options": {"decimals": 2}}
    found = compare([make(tmp_path / "a", [BEFORE]), make(tmp_path / "b", [AFTER], eval=few, verifier=verifier)])
    (note,) = found.notes
    assert note.endswith("verifier.options.decimals None and 2")
    assert "eval." not in note


def test_one_model_twice_has_two_names(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", [BEFORE, AFTER])
    assert [model.name for model in compare([folder, f"{folder}:1"]).models] == ["round 1", "round 1, again"]


@pytest.mark.parametrize("ks", [[], [0]])
def test_what_is_no_k_is_refused(ks: list[int], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ks must be whole numbers from 1 on"):
        compare([make(tmp_path / "a", [BEFORE, AFTER])], ks=ks)


def test_a_single_name_is_no_list_of_runs() -> None:
    with pytest.raises(UserError, match="takes a list of runs"):
        compare("runs/x")


def test_a_crossing_of_means_over_seeds_does_not_depend_on_how_many_seeds_there_are(tmp_path: Path) -> None:
    """`flat` solves every second problem always, `steep` each one time in four: it overtakes at pass@3."""
    steep, flat = dict.fromkeys(BEFORE, 1), {p: N if i % 2 else 0 for i, p in enumerate(BEFORE)}
    base = make(tmp_path / "base", [steep])
    flats = [make(tmp_path / f"flat-{seed}", [flat], seed=seed, **OTHER) for seed in (0, 1)]
    found = [compare([base, *some]).models[1] for some in (flats[:1], flats)]
    assert [(model.above_at, model.below_at) for model in found] == [(1, 3), (1, 3)]


def test_problems_that_only_some_were_asked_do_not_count_and_a_note_says_so(tmp_path: Path) -> None:
    fewer = {problem: AFTER[problem] for problem in list(AFTER)[:20]}
    found = compare([make(tmp_path / "a", [BEFORE]), make(tmp_path / "b", [fewer], **OTHER)])
    assert found.problems == 20
    assert found.notes == ("only the 20 problems that all were asked count, of up to 30",)


def test_other_held_out_sampling_is_noted(tmp_path: Path) -> None:
    cooler = {"k": [1, N], "n": N, "temperature": 0.2}
    found = compare([make(tmp_path / "a", [BEFORE]), make(tmp_path / "b", [AFTER], eval=cooler)])
    assert "eval.temperature 1.0 and 0.2" in found.notes[0]


def test_another_engine_or_other_options_of_it_are_noted(tmp_path: Path) -> None:
    samples = [{"backend": "own:engine", "engine_options": {"penalty": penalty}} for penalty in (1.0, 1.2)]
    found = compare([make(tmp_path / f"run{i}", [BEFORE], sample=sample) for i, sample in enumerate(samples)])
    assert "sample.engine_options.penalty 1.0 and 1.2" in found.notes[0]


def test_pass_at_k_stops_at_the_fewest_samples(tmp_path: Path) -> None:
    few = {problem: min(count, 2) for problem, count in AFTER.items()}
    runs = [make(tmp_path / "a", [BEFORE]), make(tmp_path / "b", [few], n=2)]
    assert compare(runs).measures == ("pass@1", "greedy")
    with pytest.raises(UserError, match="pass@4 needs 4 samples a problem, and some have 2"):
        compare(runs, ks=[1, 4])


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["nothing", "a"], "nothing: is not a run folder"),
        (["a:7", "a"], "round 7 was not evaluated; evaluated are 0, 1"),
        (["a", "other"], "have no held-out problem in common"),
        (["a:1"], "there is one model only"),
        (["a", "not-evaluated"], "no round is evaluated yet: star-rft run"),
    ],
)
def test_what_cannot_be_compared_is_named(runs: list[str], message: str, tmp_path: Path) -> None:
    make(tmp_path / "a", [BEFORE, AFTER])
    make(tmp_path / "other", [{f"q{i}": 1 for i in range(5)}])
    make(tmp_path / "not-evaluated", [])
    with pytest.raises(UserError, match=message):
        compare([str(tmp_path / name) for name in runs])


def test_a_split_that_was_not_sampled_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", [BEFORE, AFTER])
    with pytest.raises(UserError, match=r"round 0 has no held-out samples of data\.test"):
        compare([folder], split="test")


# The command


def test_the_command_shows_a_table_of_80_columns_and_json_everything(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / "quickstart", [BEFORE]),
        make(tmp_path / "a-run-of-which-the-name-is-longer-than-a-column", [AFTER], **OTHER),
    ]
    shown = CliRunner().invoke(app, ["compare", *runs])
    assert shown.exit_code == 0, shown.output
    assert max(len(line.rstrip()) for line in shown.output.splitlines()) <= 80
    assert "minus quickstart" in shown.output
    found = json.loads(CliRunner().invoke(app, ["compare", *runs, "--json"]).output)
    assert found["models"][1]["differences"]["pass@1"] == asdict(compare(runs).models[1].differences["pass@1"])
