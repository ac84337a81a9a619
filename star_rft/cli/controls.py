"""The command `controls`: what each part of a round contributes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_rft.cli.app import AsJson, Quiet, RunDir, app, example, progress_of, results, run_folder
from star_rft.cli.interrupts import stoppable

if TYPE_CHECKING:
    from star_rft.experiments.contributions import RoundContributions


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
    from star_rft.experiments import controls as round_controls
    from star_rft.experiments.contributions import contributions_of
    from star_rft.runs.folder import RunFolder

    folder = RunFolder(run_folder(run))
    config = settle(run)
    number = round_controls.chosen_round(folder, round_index)
    left_out = round_controls.impossible(folder, number, is_greedy=0 in config.sample.temperatures)
    seeds = list(dict.fromkeys(seed or [config.seed]))
    names = round_controls.chosen_names(only, left_out)
    chosen: dict[str, Any] = {"round_index": number, "names": names, "seeds": seeds}
    if not round_controls.is_done(folder, **chosen):
        with (
            stoppable(kept="the controls that are finished, and what others have sampled"),
            progress_of(quiet, name=f"controls of {config.name}, round {number}") as progress,
            open_run(config, progress=progress) as stages,
        ):
            round_controls.make(stages, **chosen, open_run=partial(open_run, progress=progress))
    assert config.train is not None  # else nothing could be made
    lineage = round_controls.Lineage(folder, config.train.start, config.warm_start is not None)
    found = contributions_of(folder, lineage, **chosen, run_seed=config.seed, batch_size=config.train.batch_size)
    _show(found, left_out if only is None else {}, as_json)


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
