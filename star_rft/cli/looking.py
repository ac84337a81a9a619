"""Looking: at a run, and at what there is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.shared import AsJson, RunDir, app, example, run_folder, write_report
from star_rft.types import UserError

if TYPE_CHECKING:
    import duckdb


@app.command(epilog=example("star-rft report runs/quickstart"))
def report(run: RunDir) -> None:
    """Write one self-contained HTML page about a run."""
    typer.echo(str(write_report(run_folder(run))))


@app.command(
    epilog=example(
        "star-rft sql runs/quickstart \"select round, avg((status = 'correct')::int) from traces group by 1\""
    )
)
def sql(
    run: RunDir,
    query: Annotated[
        str, typer.Argument(help="SQL over traces, samples, problems, frontier, selection, doubts, rounds, ...")
    ],
    as_json: AsJson = False,
) -> None:
    """Ask the ledger with DuckDB."""
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
    """List the verifiers that there are, with their options."""
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

    from rich.console import Console

    from star_rft import config as configs
    from star_rft import recipes as rows
    from star_rft.recipes import recipe_files
    from star_rft.report.terminal import recipes_table

    files = recipe_files()
    found = [rows.row(configs.load(path).model_dump(mode="json", by_alias=True)) for path in files]
    if as_json:
        about = [{"about": rows.headline(path), "file": str(path)} for path in files]
        typer.echo(json.dumps([asdict(row) | more for row, more in zip(found, about, strict=True)]))
    else:
        Console().print(recipes_table(found))


@recipes_app.command("show", epilog=example("star-rft recipes show rft > my.yaml"))
def show_recipe(name: Annotated[str, typer.Argument(help="The name of a recipe.")]) -> None:
    """Print the file of a recipe: its paper, its numbers, how it differs, and every switch."""
    from star_rft.recipes import recipe_files

    files = {path.stem: path for path in recipe_files()}
    if name not in files:
        raise UserError(f"there is no recipe {name!r}; valid: {', '.join(files)}")
    typer.echo(files[name].read_text(), nl=False)


@app.command(epilog=example("star-rft doctor"))
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
