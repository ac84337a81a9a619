"""The commands `ledger` and `fork`: the state of a ledger's files, and another run on its samples."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from star_rft.cli.app import AsJson, Overrides, RunDir, app, example, run_folder
from star_rft.errors import RunFailure


@app.command(epilog=example("star-rft ledger runs/quickstart --check"))
def ledger(
    run: RunDir,
    check: Annotated[
        bool, typer.Option("--check", help="Read every part and compare its SHA-256, also where nothing looks changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check and compact the ledger of a run: set damaged parts aside, merge small parts, print what it holds.

    star-rft run draws again what was set aside; the exit status is 1 as long as something is missing.
    """
    from star_rft.files import locked
    from star_rft.ledger import Ledger

    with locked(run_folder(run)):
        opened = Ledger(run, is_writer=True, reads_all=check)
        opened.compact()
        opened.compact()  # the second call removes what the first replaced: nobody else is reading now
        found = opened.summary()
    typer.echo(json.dumps(found, indent=1) if as_json else _summary(found))
    if found["units_lost"]:
        raise RunFailure(
            f"{run}: {found['units_lost']:,} units were damaged and are not drawn again yet: star-rft run {run}"
        )


@app.command(epilog=example("star-rft fork runs/quickstart four 'select.rules=[{first_samples: 4}, correct]'"))
def fork(
    run: RunDir,
    name: Annotated[str, typer.Argument(help="The name of the fork; its folder is a sibling of that of the run.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Begin another run with what this one has already: the samples of its first round, or its warm start.

    With another seed, select, train or preference it selects and trains on the same samples. With another sample,
    budget, temperature_search or rationalize it draws its own after the same warm start. Shared files are hard links.
    """
    from star_rft.build import check_names
    from star_rft.config import pairs
    from star_rft.experiments.fork import fork as make_fork
    from star_rft.experiments.fork import fork_config, fork_folder
    from star_rft.runs.folder import RunFolder

    source = RunFolder(run_folder(run))
    place = Path(os.path.relpath(fork_folder(source.path, name)))  # as short as a user would type it
    config = fork_config(source, name, pairs(overrides or ()), folder=place)
    check_names(config)
    samples, folder = make_fork(source, config), os.path.relpath(config.folder)
    if as_json:
        typer.echo(json.dumps({"run": folder, "samples": samples}))
        return
    begun = f"{samples:,} samples" if samples else "the start"
    does = "selects" if samples else "samples, selects"
    typer.echo(f"{folder}: begun with {begun} of {run}; star-rft run {folder} {does}, trains and goes on")


def _summary(found: dict[str, int]) -> str:
    return (
        f"schema {found['schema']}: {found['samples']:,} samples in {found['units']:,} units, {found['parts']:,} parts,"
        f" {found['bytes'] / 1e6:,.1f} MB"
    )
