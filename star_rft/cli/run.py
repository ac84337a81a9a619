"""The command `run`, and the commands for its single stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.app import (
    AsJson,
    ConfigOrRun,
    Overrides,
    Quiet,
    app,
    example,
    progress_of,
    results,
    write_report,
)
from star_rft.cli.interrupts import stop, stoppable
from star_rft.errors import UserError

if TYPE_CHECKING:
    from star_rft.config import Config
    from star_rft.types import RoundReport

# A page that takes more than LONG_FOR_PAGE seconds to write is written again only after SHARE_OF_PAGE times as long.
LONG_FOR_PAGE, SHARE_OF_PAGE = 2.0, 20.0


@app.command(epilog=example("star-rft run configs/quickstart.yaml sample.n=16"))
def run(
    config: ConfigOrRun,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    seeds: Annotated[
        str | None, typer.Option(help="Training seeds, 0,1,2: a run each, NAME-seed0 and so on, and a comparison.")
    ] = None,
    own_samples: Annotated[
        bool, typer.Option("--own-samples", help="With --seeds: each run draws its own samples of round 1 too.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop; the same command resumes it. Ctrl-C stops it and says what is saved."""
    from star_rft.build import settle
    from star_rft.experiments.seeds import seed_configs

    settled = settle(config, overrides or ())
    if own_samples and seeds is None:
        raise UserError("--own-samples goes with --seeds")
    runs = [settled] if seeds is None else seed_configs(settled, _numbers(seeds), own_samples=own_samples)
    if dry_run:
        _show_previews(runs, as_json)
        return
    if seeds is not None:
        _run_seeds(runs, as_json=as_json, quiet=quiet)
        return
    reports, page = _run(settled, quiet)
    _show_reports(reports, settled, as_json, page)


def _run(settled: Config, quiet: bool) -> tuple[list[RoundReport], Page]:
    """Run a config to its end, with progress and a page; return the reports of its rounds, and the page."""
    from star_rft.build import open_run
    from star_rft.loop import run as run_rounds

    page = Page(settled.folder)
    reports: list[RoundReport] = []
    with (
        stoppable(settled),
        progress_of(quiet, name=settled.name, rounds=settled.rounds) as progress,
        open_run(settled, progress=progress) as stages,
    ):
        before = [stages.recorded(round_index) for round_index in stages.context.folder.finished_rounds()]
        progress.known([report for report in before if report is not None])
        progress.say(_beginning(settled, len(before)))
        for report in run_rounds(stages, rounds=settled.rounds):
            reports.append(report)
            if len(reports) > len(before):
                progress.finished(report)
                if report.round < settled.rounds:
                    page.refresh()
        page.write()
    return reports, page


def _run_seeds(runs: list[Config], *, as_json: bool, quiet: bool) -> None:
    """Run each config of several seeds with progress and a page, and print their comparison with the start."""
    from dataclasses import asdict

    from star_rft.cli.compare import show_comparison
    from star_rft.experiments.seeds import compare_seeds

    found = compare_seeds(runs, lambda config: _run(config, quiet))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    show_comparison(found)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--seeds {text!r} must be two or more different whole numbers with commas, for example 0,1,2"
        ) from None


def _beginning(config: Config, finished: int) -> str:
    if not finished:
        return f"{config.name}: {config.rounds} rounds in {config.folder}"
    done = "round 0 is" if finished == 1 else f"rounds 0-{finished - 1} are"
    return f"{config.name}: {done} finished in {config.folder}" + (
        f", going on with round {finished} of {config.rounds}" if finished <= config.rounds else ""
    )


@dataclass(slots=True)
class Page:
    """The HTML page of a run, rewritten between rounds. A failure to write it is a warning and never ends the run."""

    folder: Path
    path: Path | None = None
    _not_before: float = 0.0

    def refresh(self) -> None:
        """Write the page again, unless writing it takes long compared with the time since the last one."""
        if monotonic() < self._not_before:
            return
        began = monotonic()
        self.write()
        seconds = monotonic() - began
        self._not_before = monotonic() + (SHARE_OF_PAGE * seconds if seconds > LONG_FOR_PAGE else 0.0)

    def write(self) -> None:
        """Write the page; what goes wrong is logged as a warning."""
        try:
            self.path = write_report(self.folder)
        except Exception as error:  # noqa: BLE001  # of whatever kind: what was sampled and trained is worth more
            stop.check()
            import logging

            text = " ".join(str(error).split())
            logging.getLogger("star_rft").warning(
                f"WARNING: the report of {self.folder} was not written ({type(error).__name__}: {text});"
                f" the run goes on; star-rft report {self.folder} tries again"
            )


def _show_previews(runs: list[Config], as_json: bool) -> None:
    """Print the size and cost of each run; as JSON a list, if there are several."""
    from dataclasses import asdict

    from star_rft.build.dry_run import preview

    if as_json:
        previews = [asdict(preview(config)) for config in runs]
        typer.echo(json.dumps(previews if len(previews) > 1 else previews[0]))
        return
    for config in runs:
        _show_preview(config)


def _show_preview(config: Config) -> None:
    from star_rft import config as configs
    from star_rft.build.dry_run import preview

    expected = preview(config)
    typer.echo(configs.dump(config))
    typer.echo(f"problems:       {', '.join(f'{count:,} {split}' for split, count in expected.problems.items())}")
    most = "" if config.budget.plan == "fixed" else "at most "
    typer.echo(f"sampling:       {most}{expected.samples_a_round:,} samples a round, {expected.rounds} rounds")
    typer.echo(f"evaluation:     {expected.held_out_samples:,} samples, {expected.evaluations} times")
    typer.echo(f"tokens at most: {expected.tokens_at_most:,}")
    typer.echo(f"disk at most:   {expected.disk_mb:,.1f} MB of ledger, and one checkpoint a round")
    typer.echo(f"training:       {expected.training}")
    typer.echo(f"memory:         {expected.memory}")
    typer.echo(f"run folder:     {config.folder}")
    for warning in expected.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _show_reports(reports: list[RoundReport], config: Config, as_json: bool, page: Page) -> None:
    from dataclasses import asdict

    from star_rft.report import tables

    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports]))
        return
    console = results()
    console.print()
    console.print(tables.fitted(tables.rounds_table(reports), console))
    if made_of := tables.training_table(reports):
        console.print(tables.fitted(made_of, console))
    if config.eval.group_by and (groups := tables.groups_table(reports, config.eval.group_by)):
        console.print(groups)
    for line in tables.verdict_lines(reports):
        console.print(line)
    if page.path is not None:
        console.print(f"Report: {page.path}", soft_wrap=True)


def _one_stage(source: str, overrides: list[str] | None, stage: str, quiet: bool) -> None:
    """Run one stage of the first unfinished round. Raises RunError if an earlier stage of it is not finished."""
    from star_rft.build import open_run, settle
    from star_rft.loop import do_stage

    settled = settle(source, overrides or ())
    with (
        stoppable(settled),
        progress_of(quiet, name=settled.name, rounds=settled.rounds) as progress,
        open_run(settled, progress=progress) as stages,
    ):
        done = do_stage(stages, stage)
    typer.echo(done)


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
