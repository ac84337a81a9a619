"""The command `controls`: what each part of a round contributes."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_rft.cli.app import AsJson, Quiet, RunDir, app, example, progress_of, results, run_folder
from star_rft.cli.interrupts import stoppable

if TYPE_CHECKING:
    from star_rft.config import Config
    from star_rft.experiments.contributions import RoundContributions
    from star_rft.experiments.controls import AtOnce
    from star_rft.loop import Stages
    from star_rft.runs.folder import RunFolder


@app.command(epilog=example("star-rft controls runs/quickstart --only random,no_dedup"))
def controls(
    run: RunDir,
    round_index: Annotated[
        int | None, typer.Option("--round", help="Which round; the last finished one unless given.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Some of random, no_dedup, reference_solutions, at_once, with commas.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Train with this seed; may be given again.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a round again on other data at equal steps: what verification, dedup and iteration each contribute."""
    from star_rft.build import open_run, settle
    from star_rft.experiments import controls as beside
    from star_rft.experiments.contributions import contributions_of
    from star_rft.runs.folder import RunFolder

    folder = RunFolder(run_folder(run))
    config = settle(run)
    number = beside.chosen_round(folder, round_index)
    without = beside.impossible(folder, number, is_greedy=0 in config.sample.temperatures)
    seeds = list(dict.fromkeys(seed or [config.seed]))
    names = beside.chosen_names(only, without)
    wanted: dict[str, Any] = {"round_index": number, "names": names, "seeds": seeds}
    if not beside.is_done(folder, **wanted):
        with (
            stoppable(kept="the controls that are finished, and what others have sampled"),
            progress_of(quiet, name=f"controls of {config.name}, round {number}") as progress,
        ):

            def at_once(asked: AtOnce) -> AbstractContextManager[Stages]:
                return open_run(_at_once(folder, asked), progress=progress)

            with open_run(config, progress=progress) as stages:
                beside.make(stages, **wanted, at_once=at_once)
    assert config.train is not None  # else nothing could be made
    lineage = beside.Lineage(folder, config.train.start, config.warm_start is not None)
    found = contributions_of(folder, lineage, **wanted, run_seed=config.seed, batch_size=config.train.batch_size)
    _show(found, without if only is None else {}, as_json)


def _at_once(folder: RunFolder, asked: AtOnce) -> Config:
    """Return the config of a run that draws in one round what the run drew in several.

    Where a round samples some of the problems, more of them are sampled first, and then more often.
    """
    from star_rft import config as configs
    from star_rft.data import read_problems

    config, rounds = configs.load(folder.config), asked.rounds
    changes: dict[str, Any] = {"run_dir": str(asked.folder), "rounds": 1, "seed": asked.seed, "report_to": None}
    changes |= {"train.max_steps": asked.steps, "train.step_growth": 1.0}
    n, per_round = config.sample.n * rounds, config.sample.problems
    if per_round is not None:
        problems = len(read_problems(folder.problems)["train"])
        together = min(per_round * rounds, problems)
        n = -(-config.sample.n * per_round * rounds // together)
        changes["sample.problems"] = together
    changes["sample.n"] = n
    if config.budget.tokens is not None:
        changes["budget.tokens"] = config.budget.tokens * rounds
    is_of_all_rounds = config.budget.plan == "adaptive" and config.select.rounds == "all"
    if config.budget.plan != "fixed" and not is_of_all_rounds:
        changes["budget.target"] = config.budget.target * rounds
    return configs.load(folder.config, changes)


def _show(found: RoundContributions, left_out: dict[str, str], as_json: bool) -> None:
    from dataclasses import asdict

    from star_rft.report import frontier_tables as report

    if as_json:
        typer.echo(json.dumps({**asdict(found), "left_out": left_out}))
        return
    console = results()
    console.print(report.scores_table(found))
    console.print(report.costs_table(found))
    left = [f"Left out: {name}: {reason}." for name, reason in left_out.items()]
    for line in [*report.contribution_lines(found), *report.unmatched_lines(found), *left]:
        console.print(line)
    console.print(f"Models, selections and samples: {Path(found.run) / 'controls'}", soft_wrap=True)
