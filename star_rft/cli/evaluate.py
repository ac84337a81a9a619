"""The commands `verify`, `bench` and `best-of-n`, which judge and measure without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_rft.cli.app import AsJson, Quiet, app, example, progress_of, results
from star_rft.cli.compare import numbers
from star_rft.cli.interrupts import stoppable
from star_rft.errors import RunFailure, UserError

if TYPE_CHECKING:
    from star_rft.config import Config
    from star_rft.experiments.best_of_n import BestOfN
    from star_rft.types import RoundReport


@app.command(epilog=example("star-rft verify math answers.jsonl   or   star-rft verify runs/quickstart"))
def verify(
    name: Annotated[str, typer.Argument(help="A verifier, or a run folder whose samples to judge again.")],
    file: Annotated[Path | None, typer.Argument(help='Lines of {"id", "completion", "reference"}.')] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a check may take.")] = None,
    options: Annotated[list[str] | None, typer.Option("--set", help="option=value of the verifier")] = None,
) -> None:
    """Score a file of completions, or judge a run's samples again with the verifier as it is now."""
    if file is None:
        _verify_run(name, workers)
        return
    from verifiers.__main__ import main as verify_main

    arguments = [name, str(file)]
    arguments += [] if workers is None else ["--workers", str(workers)]
    arguments += [] if timeout is None else ["--timeout", str(timeout)]
    arguments += [part for option in options or () for part in ("--set", option)]
    raise typer.Exit(verify_main(arguments))


def _verify_run(folder: str, workers: int | None) -> None:
    from star_rft.build import open_run, settle
    from star_rft.sampling.writer import verify_again

    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: is not a run folder; to score a file: star-rft verify NAME FILE.jsonl"
            " (star-rft verifiers lists the names)"
        )
    settled = settle(folder, [] if workers is None else [f"verifier.workers={workers}"])
    with (
        stoppable(),
        progress_of(False, name=settled.name) as progress,
        open_run(settled, progress=progress) as stages,
    ):
        changed = verify_again(stages.context, stages.sampling.rollout.pool)
    typer.echo(", ".join(f"{key}: {count:,}" for key, count in sorted(changed.items())) or "no verdict changed")


@app.command(epilog=example("star-rft bench tiny --data word_problems --k 1,8"))
def bench(
    model: Annotated[str, typer.Argument(help="tiny, smollm2, a folder or a hub name.")],
    data: Annotated[str, typer.Option(help="A file, a hub name, word_problems or python_tasks.")],
    k: Annotated[str, typer.Option(help="The k of pass@k, with commas.")] = "1,4,16",
    n: Annotated[int | None, typer.Option(help="Samples a problem; the largest k unless given.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N problems.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any key=value of a config.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure greedy accuracy, pass@k and maj@k of any model, without training."""
    from star_rft.build import open_run
    from star_rft.build.dry_run import bench_config
    from star_rft.loop import run as run_rounds

    settled = bench_config(model, data, ks=numbers(k), n=n, limit=limit, overrides=settings or ())
    with (
        stoppable(settled),
        progress_of(quiet, name=f"bench {model}") as progress,
        open_run(settled, progress=progress) as stages,
    ):
        report = next(iter(run_rounds(stages, rounds=0)))
    _show_bench(report, settled, as_json)


def _show_bench(report: RoundReport, config: Config, as_json: bool) -> None:
    from dataclasses import asdict

    from star_rft.report.tables import scores_table

    if report.held_out is None:
        raise RunFailure("nothing was evaluated")
    if as_json:
        document = {"model": config.model.name, "fingerprint": report.model, **asdict(report.held_out)}
        typer.echo(json.dumps(document | {"run": str(config.folder)}))
        return
    results().print(scores_table(report.held_out, f"{config.model.name} (samples in {config.folder})"))


@app.command(
    "best-of-n", epilog=example("star-rft best-of-n tiny --data word_problems --by reward_model --scorer-model rm/")
)
def best_of_n(
    model: Annotated[str, typer.Argument(help="tiny, smollm2, a folder or a hub name.")],
    data: Annotated[str, typer.Option(help="A file, a hub name, word_problems or python_tasks.")],
    n: Annotated[int, typer.Option(help="Samples a problem.")] = 16,
    by: Annotated[
        str, typer.Option(help="What chooses: reward_model, majority, likelihood, judge, or a verifier (an oracle).")
    ] = "majority",
    scorer_model: Annotated[str | None, typer.Option(help="The model that scores; else the policy does.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N problems.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key=value of a config; scorer.key=value for what chooses.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a score choose one of k samples, and measure the accuracy of that for each k, with pass@k and majority."""
    from star_rft.build import open_run
    from star_rft.build.dry_run import bench_config
    from star_rft.config import pairs
    from star_rft.experiments import best_of_n as choice
    from star_rft.loop import run as run_rounds

    options = {k.removeprefix("scorer."): v for k, v in pairs(settings or ()).items() if k.startswith("scorer.")}
    overrides = [text for text in settings or () if not text.startswith("scorer.")]
    settled = bench_config(model, data, ks=choice.doublings(n), n=n, limit=limit, overrides=overrides)
    choice.check_chooser(by, model=scorer_model, options=options)
    with (
        stoppable(settled),
        progress_of(quiet, name=f"best-of-n {model}") as progress,
        open_run(settled, progress=progress) as stages,
    ):
        chooser = choice.open_chooser(by, stages, model=scorer_model, options=options, **_verifier_of(settled))
        report = next(iter(run_rounds(stages, rounds=0)))
        measured = choice.measure(stages, chooser)
    _show_best_of_n(measured, report, settled, as_json)


def _verifier_of(config: Config) -> dict[str, Any]:
    section = config.verifier
    return {"verifier": section.name, "workers": section.workers, "timeout": section.timeout}


def _show_best_of_n(measured: BestOfN, report: RoundReport, config: Config, as_json: bool) -> None:
    from dataclasses import asdict

    from star_rft.report import tables

    if as_json:
        document = {"model": config.model.name, "fingerprint": report.model, **asdict(measured)}
        typer.echo(json.dumps(document | {"over_optimised": measured.is_over_optimised, "run": str(config.folder)}))
        return
    console = results()
    title = f"{config.model.name}: best of k by {measured.by}, {measured.problems} problems x {measured.n} samples"
    console.print(tables.best_of_n_table(measured, title))
    for line in [*tables.best_of_n_lines(measured), f"Samples and scores: {config.folder}"]:
        console.print(line)
