"""The commands `report`, `view`, `sql`, `verifiers` and `recipes`, which only read."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.app import AsJson, Quiet, RunDir, app, example, progress_of, results, run_folder
from star_rft.errors import UserError

if TYPE_CHECKING:
    import duckdb


@app.command(epilog=example("star-rft report runs/quickstart --out report.html"))
def report(
    run: RunDir,
    out: Annotated[Path | None, typer.Option(help="Where to write it; else report.html in the run folder.")] = None,
    traces: Annotated[int, typer.Option(min=0, help="How many traces to show, about; the page grows 2 kB each.")] = 240,
) -> None:
    """Write one self-contained HTML page about a run, which may still be running."""
    from star_rft.report.page import write_page

    typer.echo(str(write_page(run_folder(run), out=out, traces=traces)))


@app.command(
    epilog=example(
        "star-rft sql runs/quickstart \"select round, avg((status = 'correct')::int) from traces group by 1\""
    )
)
def sql(
    run: RunDir,
    query: Annotated[
        str, typer.Argument(help="SQL over traces, samples, problems, frontier, selection, flagged, rounds, ...")
    ],
    as_json: AsJson = False,
) -> None:
    """Query the ledger with SQL."""
    import duckdb

    from star_rft.ledger import Ledger

    ledger = Ledger(run_folder(run))
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


@app.command("verifiers", epilog=example("star-rft verifiers"))
def list_verifiers() -> None:
    """List the verifiers with their options."""
    from verifiers.__main__ import main as verify_main

    raise typer.Exit(verify_main(["--list"]))


recipes_app = typer.Typer(help="The published methods as configs.", rich_markup_mode=None)
app.add_typer(recipes_app, name="recipes")


@recipes_app.callback(invoke_without_command=True, epilog=example("star-rft recipes   or   star-rft recipes show rft"))
def recipes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the configs that come with star-rft, as rows of switches."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from star_rft import config as configs
    from star_rft import recipes as rows
    from star_rft.recipes import recipe_files
    from star_rft.report.tables import recipes_table

    files = recipe_files()
    found = [rows.row(configs.load(path).model_dump(mode="json", by_alias=True)) for path in files]
    if as_json:
        about = [{"about": rows.headline(path), "file": str(path)} for path in files]
        typer.echo(json.dumps([asdict(row) | more for row, more in zip(found, about, strict=True)]))
    else:
        results().print(recipes_table(found))


@recipes_app.command("show", epilog=example("star-rft recipes show rft > my.yaml"))
def show_recipe(name: Annotated[str, typer.Argument(help="The name of a recipe.")]) -> None:
    """Print the file of a recipe: its paper, its numbers, how it differs, and every switch."""
    from star_rft.recipes import recipe_files

    files = {path.stem: path for path in recipe_files()}
    if name not in files:
        raise UserError(f"there is no recipe {name!r}; valid: {', '.join(files)}")
    typer.echo(files[name].read_text(), nl=False)


@app.command(epilog=example("star-rft view runs/quickstart"))
def view(
    run: RunDir,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.", show_default="8320, or any")
    ] = None,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
    quiet: Quiet = False,
) -> None:
    """Show every trace in the browser: search, filters, a problem's samples side by side. For this machine only."""
    from star_rft.build import settle
    from star_rft.build.sampling import policy_sample_indices
    from star_rft.cli.interrupts import Interruption
    from star_rft.viewer.server import serve

    config = settle(str(run_folder(run)))
    try:
        serve(
            run,
            port=port,
            group_by=config.eval.group_by,
            own=policy_sample_indices(config),
            progress=partial(progress_of, quiet),
            say=typer.echo,
            opens=opens,
        )
    except (Interruption, KeyboardInterrupt):
        typer.echo("stopped looking; nothing was changed", err=True)
