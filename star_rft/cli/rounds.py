"""The loop, and its stages one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.shared import AsJson, ConfigOrRun, Overrides, Quiet, app, example, progress_of, write_report

if TYPE_CHECKING:
    from star_rft.config import Config
    from star_rft.report.terminal import TerminalProgress
    from star_rft.types import RoundReport


@app.command(epilog=example("star-rft run configs/quickstart.yaml sample.n=16"))
def run(
    config: ConfigOrRun,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop; the same command resumes it."""
    from star_rft.build import open_run, settle
    from star_rft.loop import run as run_rounds

    settled = settle(config, overrides or ())
    if dry_run:
        _show_plan(settled, as_json)
        return
    reports: list[RoundReport] = []
    progress = progress_of(quiet or as_json)
    progress.say(f"{settled.name}: {settled.rounds} rounds in {settled.folder}")
    with open_run(settled, progress=progress) as stages:
        for report in run_rounds(stages, rounds=settled.rounds):
            reports.append(report)
            _say_round(progress, report)
    page = write_report(settled.folder)
    _show_reports(reports, settled, as_json, page)


def _show_plan(config: Config, as_json: bool) -> None:
    from dataclasses import asdict

    from star_rft import config as configs
    from star_rft.preview import preview

    plan = preview(config)
    if as_json:
        typer.echo(json.dumps(asdict(plan)))
        return
    typer.echo(configs.dump(config))
    typer.echo(f"problems:       {', '.join(f'{count:,} {split}' for split, count in plan.problems.items())}")
    most = "" if config.budget.plan == "fixed" else "at most "
    typer.echo(f"sampling:       {most}{plan.samples_a_round:,} samples a round, {plan.rounds} rounds")
    typer.echo(f"evaluation:     {plan.held_out_samples:,} samples, {plan.evaluations} times")
    typer.echo(f"tokens at most: {plan.tokens_at_most:,}")
    typer.echo(f"disk at most:   {plan.disk_mb:,.1f} MB of ledger, and one checkpoint a round")
    typer.echo(f"training:       {plan.training}")
    typer.echo(f"run folder:     {config.folder}")


def _say_round(progress: TerminalProgress, report: RoundReport) -> None:
    scored = report.held_out
    if scored is not None:
        progress.say(f"round {report.round}: held-out pass@1 {scored.pass_at_1_interval}")


def _show_reports(reports: list[RoundReport], config: Config, as_json: bool, page: Path) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from star_rft.report import terminal

    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
        return
    console = Console()
    console.print()
    console.print(terminal.rounds_table(reports))
    if made_of := terminal.training_table(reports):
        console.print(made_of)
    if config.eval.group_by and (groups := terminal.groups_table(reports, config.eval.group_by)):
        console.print(groups)
    for line in terminal.verdict_lines(reports):
        console.print(line, highlight=False)
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)


def _one_stage(source: str, overrides: list[str] | None, stage: str, quiet: bool) -> None:
    """Run one stage of the first unfinished round; what it needs from earlier stages must be there."""
    from star_rft.build import open_run, settle
    from star_rft.stages import do_stage

    settled = settle(source, overrides or ())
    progress = progress_of(quiet)
    with open_run(settled, progress=progress) as stages:
        progress.say(do_stage(stages, stage))


@app.command(epilog=example("star-rft sample runs/quickstart"))
def sample(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Draw and verify the completions of the current round."""
    _one_stage(run, overrides, "sample", quiet)


@app.command(epilog=example("star-rft select runs/quickstart"))
def select(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Choose what the current round trains on; selection.parquet holds why."""
    _one_stage(run, overrides, "select", quiet)


@app.command(epilog=example("star-rft train runs/quickstart"))
def train(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Train on the current round's selection and write its checkpoint."""
    _one_stage(run, overrides, "train", quiet)


@app.command("eval", epilog=example("star-rft eval runs/quickstart"))
def evaluate(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Evaluate the current round's checkpoint and write its metrics."""
    _one_stage(run, overrides, "eval", quiet)
