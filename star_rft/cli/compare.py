"""The command `compare`: runs and rounds by their held-out samples."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.app import AsJson, app, example, results
from star_rft.errors import UserError

if TYPE_CHECKING:
    from star_rft.experiments.compare import Comparison


@app.command(epilog=example("star-rft compare runs/rft runs/star   or   star-rft compare runs/rft:0 runs/rft:2"))
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders; RUN:2 is round 2. One alone: all its rounds.")
    ],
    split: Annotated[str | None, typer.Option(help="dev or test; dev unless a run has none.")] = None,
    k: Annotated[str | None, typer.Option(help="The k of pass@k and maj@k, with commas.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs or rounds on the same held-out problems, with paired intervals against the first.

    Of a run, the model that its gate says to use. Runs that differ by their seed only count as one, over seeds.
    """
    from star_rft.experiments.compare import compare as comparison_of

    if split not in (None, "dev", "test"):
        raise UserError(f"--split {split!r} must be dev or test")
    found = comparison_of(runs, split=split, ks=None if k is None else numbers(k))  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    show_comparison(found, all_of_them=k is not None)


def show_comparison(found: Comparison, *, all_of_them: bool = False) -> None:
    """Print a comparison: pass@1, and pass@k and maj@k of the largest k, or all measures."""
    from star_rft.report import comparison_tables

    measures = comparison_tables.shown_measures(found, all_of_them=all_of_them)
    console = results()
    console.print(comparison_tables.comparison_table(found, measures))
    for line in comparison_tables.comparison_lines(found):
        console.print(line)


def numbers(text: str) -> list[int]:
    """Read the values of k, "1,4,16". Raises UserError."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UserError(f"--k {text!r} must be whole numbers from 1 on, with commas, for example 1,4,16")
    return found
