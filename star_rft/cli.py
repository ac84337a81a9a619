"""The command line. Heavy imports live inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_rft.types import RunFailure, UserError

if TYPE_CHECKING:
    from star_rft.best_of_n import BestOfN
    from star_rft.config import Config
    from star_rft.report.terminal import TerminalProgress
    from star_rft.types import RoundReport

app = typer.Typer(
    name="star-rft",
    help="Make a language model reason better by training it on its own verified attempts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOrRun = Annotated[str, typer.Argument(help="A config file, the name of a recipe, or a run folder.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, for example sample.n=16")]
RunDir = Annotated[Path, typer.Argument(help="A run folder, for example runs/quickstart")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def main() -> None:
    """Run the command line: a user's mistake is one line and status 2, a failure one line and status 1."""
    from verifiers.registry import VerifierError

    sys.path.insert(0, str(Path.cwd()))  # so that "my_checks:function" is found beside the config
    try:
        app()
    except (UserError, VerifierError) as error:
        _die(str(error), 2)
    except RunFailure as error:
        _die(str(error), 1)
    except KeyboardInterrupt:
        _die("stopped; every finished unit is saved, and the same command goes on from there", 130)


def _die(message: str, status: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(status)


def _example(text: str) -> str:
    return f"Example: {text}"


@app.command(epilog=_example("star-rft run configs/quickstart.yaml sample.n=16"))
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
    progress = _progress(quiet or as_json)
    progress.say(f"{settled.name}: {settled.rounds} rounds in {settled.folder}")
    with open_run(settled, progress=progress) as stages:
        for report in run_rounds(stages, rounds=settled.rounds):
            reports.append(report)
            _say_round(progress, report)
    page = _write_report(settled.folder)
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
    typer.echo(f"sampling:       {plan.samples_a_round:,} samples a round, {plan.rounds} rounds")
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


def _write_report(folder: Path) -> Path:
    from star_rft.report.page import write_page

    return write_page(folder)


def _progress(is_quiet: bool) -> Any:
    from rich.console import Console

    from star_rft.progress import Silent
    from star_rft.report.terminal import TerminalProgress

    return Silent() if is_quiet else TerminalProgress(Console())


def _one_stage(source: str, overrides: list[str] | None, stage: str, quiet: bool) -> None:
    """Run one stage of the first unfinished round; what it needs from earlier stages must be there."""
    from star_rft.build import open_run, settle
    from star_rft.stages import do_stage

    settled = settle(source, overrides or ())
    progress = _progress(quiet)
    with open_run(settled, progress=progress) as stages:
        progress.say(do_stage(stages, stage))


@app.command(epilog=_example("star-rft sample runs/quickstart"))
def sample(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Draw and verify the completions of the current round."""
    _one_stage(run, overrides, "sample", quiet)


@app.command(epilog=_example("star-rft select runs/quickstart"))
def select(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Choose what the current round trains on; selection.parquet holds why."""
    _one_stage(run, overrides, "select", quiet)


@app.command(epilog=_example("star-rft train runs/quickstart"))
def train(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Train on the current round's selection and write its checkpoint."""
    _one_stage(run, overrides, "train", quiet)


@app.command("eval", epilog=_example("star-rft eval runs/quickstart"))
def evaluate(run: ConfigOrRun, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Evaluate the current round's checkpoint and write its metrics."""
    _one_stage(run, overrides, "eval", quiet)


@app.command(epilog=_example("star-rft verify math answers.jsonl   or   star-rft verify runs/quickstart"))
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

    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: is not a run folder; to score a file: star-rft verify NAME FILE.jsonl"
            " (star-rft verifiers lists the names)"
        )
    settled = settle(folder, [] if workers is None else [f"verifier.workers={workers}"])
    progress = _progress(False)
    with open_run(settled, progress=progress) as stages:
        changed = stages.verify_again()
    text = ", ".join(f"{key}: {count:,}" for key, count in sorted(changed.items())) or "no verdict changed"
    progress.say(text)


@app.command(epilog=_example("star-rft bench tiny --data word_problems --k 1,8"))
def bench(
    model: Annotated[str, typer.Argument(help="tiny, smollm2, a folder or a hub name.")],
    data: Annotated[str, typer.Option(help="A file, a hub name, or word_problems.")],
    k: Annotated[str, typer.Option(help="The k of pass@k, with commas.")] = "1,4,16",
    n: Annotated[int | None, typer.Option(help="Samples a problem; the largest k unless given.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any key=value of a config.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure greedy accuracy, pass@k and maj@k of any model, without training."""
    from star_rft.bench import bench_config
    from star_rft.build import open_run
    from star_rft.loop import run as run_rounds

    settled = bench_config(model, data, ks=_numbers(k), n=n, limit=limit, overrides=settings or ())
    with open_run(settled, progress=_progress(quiet or as_json)) as stages:
        report = next(iter(run_rounds(stages, rounds=0)))
    _show_bench(report, settled, as_json)


def _show_bench(report: RoundReport, config: Config, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from star_rft.report.terminal import scores_table

    if report.held_out is None:
        raise RunFailure("nothing was evaluated")
    if as_json:
        document = {"model": config.model.name, "fingerprint": report.model, **asdict(report.held_out)}
        typer.echo(json.dumps(document | {"run": str(config.folder)}))
        return
    Console().print(scores_table(report.held_out, f"{config.model.name} (samples in {config.folder})"))


@app.command(
    "best-of-n", epilog=_example("star-rft best-of-n tiny --data word_problems --by reward_model --scorer-model rm/")
)
def best_of_n(
    model: Annotated[str, typer.Argument(help="tiny, smollm2, a folder or a hub name.")],
    data: Annotated[str, typer.Option(help="A file, a hub name, or word_problems.")],
    n: Annotated[int, typer.Option(help="Samples a problem.")] = 16,
    by: Annotated[
        str, typer.Option(help="What chooses: reward_model, majority, likelihood, judge, or a verifier (an oracle).")
    ] = "majority",
    scorer_model: Annotated[str | None, typer.Option(help="The model that scores; else the policy does.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key=value of a config; scorer.key=value for what chooses.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let a score choose one of n samples: its verified accuracy for every k, beside pass@k and majority."""
    from star_rft import best_of_n as choice
    from star_rft.bench import bench_config
    from star_rft.build import open_run
    from star_rft.config import pairs
    from star_rft.loop import run as run_rounds

    options = {k.removeprefix("scorer."): v for k, v in pairs(settings or ()).items() if k.startswith("scorer.")}
    overrides = [text for text in settings or () if not text.startswith("scorer.")]
    settled = bench_config(model, data, ks=choice.doublings(n), n=n, limit=limit, overrides=overrides)
    choice.check_chooser(by, model=scorer_model, options=options)
    with open_run(settled, progress=_progress(quiet or as_json)) as stages:
        chooser = choice.open_chooser(by, stages, model=scorer_model, options=options, **_verifier_of(settled))
        report = next(iter(run_rounds(stages, rounds=0)))
        measured = choice.measure(stages, chooser)
    _show_best_of_n(measured, report, settled, as_json)


def _verifier_of(config: Config) -> dict[str, Any]:
    section = config.verifier
    return {"verifier": section.name, "workers": section.workers, "timeout": section.timeout}


def _show_best_of_n(measured: BestOfN, report: RoundReport, config: Config, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from star_rft.report import terminal

    if as_json:
        document = {"model": config.model.name, "fingerprint": report.model, **asdict(measured)}
        typer.echo(json.dumps(document | {"over_optimised": measured.is_over_optimised, "run": str(config.folder)}))
        return
    console = Console()
    title = f"{config.model.name}: best of k by {measured.by}, {measured.problems} problems x {measured.n} samples"
    console.print(terminal.best_of_n_table(measured, title))
    for line in [*terminal.best_of_n_lines(measured), f"Samples and scores: {config.folder}"]:
        console.print(line, highlight=False)


def _numbers(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--k {text!r} must be whole numbers with commas, for example 1,4,16") from None


@app.command(epilog=_example("star-rft report runs/quickstart"))
def report(run: RunDir) -> None:
    """Write one self-contained HTML page about a run."""
    typer.echo(str(_write_report(_run_folder(run))))


@app.command(
    epilog=_example(
        "star-rft sql runs/quickstart \"select round, avg((status = 'correct')::int) from traces group by 1\""
    )
)
def sql(
    run: RunDir,
    query: Annotated[str, typer.Argument(help="SQL over problems, samples, verdicts, traces, selection, rounds.")],
    as_json: AsJson = False,
) -> None:
    """Ask the ledger with DuckDB."""
    import duckdb

    from star_rft.ledger import Ledger

    ledger = Ledger(_run_folder(run))
    try:
        relation: duckdb.DuckDBPyRelation | None = ledger.connect().sql(query)
    except duckdb.Error as error:
        raise UserError(f"sql: {error}") from None
    if relation is None:
        return
    if as_json:
        typer.echo(json.dumps(relation.to_arrow_table().to_pylist(), default=str))
    else:
        relation.show(max_width=160, max_rows=200)


@app.command(epilog=_example("star-rft frontier runs/quickstart --limit 20"))
def frontier(
    run: RunDir,
    limit: Annotated[int, typer.Option(help="How many prompts to show.")] = 20,
    every: Annotated[bool, typer.Option("--all", help="All prompts, not only those without survivors.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the prompts without survivors, with an upper bound of their pass rate."""
    from itertools import islice

    from rich.console import Console

    from star_rft.frontier import history
    from star_rft.ledger import Ledger
    from star_rft.report.terminal import frontier_table

    rows = history(Ledger(_run_folder(run)).connect(), only_without_survivors=not every)
    if as_json:
        typer.echo(json.dumps(list(rows)))
        return
    shown = list(islice(rows, limit))
    rest = sum(1 for _ in rows)
    Console().print(frontier_table(shown, rest))


@app.command("verifiers", epilog=_example("star-rft verifiers"))
def list_verifiers() -> None:
    """List the verifiers that there are, with their options."""
    from verifiers.__main__ import main as verify_main

    raise typer.Exit(verify_main(["--list"]))


recipes_app = typer.Typer(help="The published methods as configs.", rich_markup_mode=None)
app.add_typer(recipes_app, name="recipes")


@recipes_app.callback(invoke_without_command=True, epilog=_example("star-rft recipes   or   star-rft recipes show rft"))
def recipes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the configs that come with star-rft, as rows of switches."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from star_rft import config as configs
    from star_rft import recipes as rows
    from star_rft.build import recipe_files
    from star_rft.report.terminal import recipes_table

    files = recipe_files()
    found = [rows.row(configs.load(path).model_dump(mode="json", by_alias=True)) for path in files]
    if as_json:
        about = [{"about": rows.headline(path), "file": str(path)} for path in files]
        typer.echo(json.dumps([rows.as_json(row) | more for row, more in zip(found, about, strict=True)]))
    else:
        Console().print(recipes_table(found))


@recipes_app.command("show", epilog=_example("star-rft recipes show rft > my.yaml"))
def show_recipe(name: Annotated[str, typer.Argument(help="The name of a recipe.")]) -> None:
    """Print the file of a recipe: its paper, its numbers, how it differs, and every switch."""
    from star_rft.build import recipe_files

    files = {path.stem: path for path in recipe_files()}
    if name not in files:
        raise UserError(f"there is no recipe {name!r}; valid: {', '.join(files)}")
    typer.echo(files[name].read_text(), nl=False)


@app.command(epilog=_example("star-rft doctor"))
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine, and what would make the rest work."""
    from star_rft.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{'ok ' if finding.is_ok else 'NO '} {finding.what:<22} {finding.found}")
            if finding.fix:
                typer.echo(f"    {'':<22} {finding.fix}")
    if any(not finding.is_ok for finding in findings):
        raise typer.Exit(1)


def _run_folder(path: Path) -> Path:
    if not (path / "config.yaml").exists():
        raise UserError(f"{path}: is not a run folder: it has no config.yaml")
    return path


if __name__ == "__main__":
    main()
