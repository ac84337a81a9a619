"""The ledger as files: whether it is whole, how many parts it has, of which schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from star_rft.cli.shared import AsJson, RunDir, app, example, run_folder
from star_rft.types import RunFailure


@app.command(epilog=example("star-rft ledger runs/quickstart --check"))
def ledger(
    run: RunDir,
    check: Annotated[
        bool, typer.Option("--check", help="Read every part and compare its SHA-256, also where nothing looks changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the ledger of a run up to date, set damaged parts aside, put small parts together, say what there is.

    What was set aside is drawn again by star-rft run; the exit status is 1 as long as something is missing.
    """
    from star_rft.files import locked
    from star_rft.ledger import Ledger

    with locked(run_folder(run)):
        opened = Ledger(run, is_writer=True, reads_all=check)
        opened.compact()
        opened.compact()  # the second call removes what the first replaced: nobody else is reading now
        found = opened.summary()
    typer.echo(json.dumps(found, indent=1) if as_json else _told(found))
    if found["units_lost"]:
        raise RunFailure(
            f"{run}: {found['units_lost']:,} units were damaged and are not drawn again yet: star-rft run {run}"
        )


def _told(found: dict[str, int]) -> str:
    return (
        f"schema {found['schema']}: {found['samples']:,} samples in {found['units']:,} units, {found['parts']:,} parts,"
        f" {found['bytes'] / 1e6:,.1f} MB"
    )
