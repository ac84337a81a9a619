"""The command `export`: what was trained on, in the formats of other trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.cli.app import AsJson, Quiet, RunDir, app, example, progress_of, results, run_folder

if TYPE_CHECKING:
    from star_rft.exports.export import ExportResult


@app.command(epilog=example("star-rft export runs/quickstart --format sft"))
def export(
    run: RunDir,
    format: Annotated[str, typer.Option("--format", help="sft, dpo, jsonl, parquet or hub-folder.")],
    round_index: Annotated[
        int | None, typer.Option("--round", help="Which round; that of the model to use unless given.")
    ] = None,
    all_rounds: Annotated[bool, typer.Option("--all-rounds", help="Every round that selected something.")] = False,
    tool: Annotated[
        str | None, typer.Option("--for", help="sft, dpo: in the layout of trl (unless given), axolotl, llama-factory.")
    ] = None,
    include: Annotated[
        str | None, typer.Option(help="Traces: selected (unless given), correct, or all, with why each was dropped.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="jsonl, parquet: train (unless given), dev or test.")] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With the ids: sampled ones of traces, trained ones of sft and dpo.")
    ] = False,
    pairs: Annotated[
        int | None, typer.Option(help="dpo, where the run compared nothing: pairs a problem; 1 unless given.", min=1)
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", help="The card's; star-rft does not know it.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; one in RUN/export unless given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write what was trained on, with a data card, in the formats that TRL, axolotl and LLaMA-Factory read."""
    from star_rft.build.exports import export_run
    from star_rft.runs.folder import RunFolder

    options = {"--for": tool, "--include": include, "--split": split, "--tokens": tokens or None, "--pairs": pairs}
    with progress_of(quiet or as_json) as progress:
        made = export_run(
            RunFolder(run_folder(run)),
            format,
            options,
            round_index=round_index,
            all_rounds=all_rounds,
            licence=licence,
            out=out,
            force=force,
            progress=progress,
        )
    _show(made, as_json)


def _show(made: ExportResult, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps(asdict(made) | {"out": str(made.out)}))
        return
    console = results()
    for name, rows in made.files.items():
        console.print(f"{rows:>9,} rows  {made.out / name}", soft_wrap=True)
    console.print(f"     card  {made.out / 'README.md'}", soft_wrap=True)
