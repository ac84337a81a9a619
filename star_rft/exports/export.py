"""Writes an export: rows into files, and their data card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_rft.errors import RunError
from star_rft.exports import traces
from star_rft.exports.card_data import CardConfig
from star_rft.exports.cards import File, Kind, data_card
from star_rft.exports.files import CARD, INFO, in_batches, new_folder, opened
from star_rft.exports.formats import WORDS, Job, Layout, dataset_info, dataset_name, for_examples, for_preferences
from star_rft.exports.rows import (
    ExampleRow,
    Material,
    PreferenceRow,
    Tally,
    compared,
    count_of_pairs,
    imitated,
    set_against_incorrect,
)
from star_rft.progress import Progress
from star_rft.runs.folder import RunFolder

if TYPE_CHECKING:
    import duckdb

# DuckDB sorts on disk what does not fit; one thread, as each holds on to blocks of its own and several run out of it.
MEMORY = "500MB"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported: files with their rows, without the card. `tokens` are of prompts and completions."""

    out: Path
    rounds: Sequence[int]
    files: dict[str, int]
    problems: int
    tokens: int
    too_long: int


@dataclass(frozen=True, slots=True)
class _Export:
    """An export that is under way; only one of traces has no `material`."""

    folder: RunFolder
    run: CardConfig
    con: duckdb.DuckDBPyConnection
    material: Material | None
    job: Job
    into: Path
    tally: Tally
    progress: Progress

    @property
    def is_hub(self) -> bool:
        return self.job.format == "hub-folder"

    @property
    def where(self) -> str:
        return f"{self.folder.path}: round {', '.join(map(str, self.job.rounds))}"

    def written(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], total: int) -> int:
        """Write a file and return its number of rows."""
        rows = 0
        with opened(self.into / name, schema) as write, self.progress.stage(f"writing {name}", total) as advance:
            for batch in batches:
                write(batch)
                rows += batch.num_rows
                advance(batch.num_rows, 0)
        return rows


def export(
    folder: RunFolder,
    run: CardConfig,
    con: duckdb.DuckDBPyConnection,
    material: Material | None,
    job: Job,
    *,
    out: Path,
    force: bool,
    progress: Progress,
) -> ExportResult:
    """Write an export whole or not at all.

    Args:
        folder: The run's folder.
        run: The run's config, as cards show it.
        con: A connection with the views of the run's ledger.
        material: What turns rows into text; None for formats of traces.
        job: What to export.
        out: The folder to write; its card is README.md.
        force: Whether to replace an earlier export.
        progress: Shows how far each file is.

    Returns:
        What was written.

    Raises:
        UserError: There is nothing to write, or no place for it.
    """
    tally = Tally()
    with new_folder(out, force=force) as into, _bounded(con):
        work = _Export(folder, run, con, material, job, into, tally, progress)
        files = [_WRITERS[kind](work) for kind in _kinds(job, run)]
        (into / CARD).write_text(data_card(folder, con, run, job, files, tally), encoding="utf-8")
    tokens = tally.prompt_tokens + tally.completion_tokens
    rows = {file.name: file.rows for file in files}
    return ExportResult(out, job.rounds, rows, len(tally.problems), tokens, tally.too_long)


def _kinds(job: Job, run: CardConfig) -> list[Kind]:
    if job.format == "sft" or job.format == "dpo":
        return [job.format]
    if job.format != "hub-folder":
        return ["traces"]
    trained: dict[Kind, Any] = {"sft": run.config["train"], "dpo": run.config["preference"]}
    return [*(kind for kind, section in trained.items() if section), "traces"]


@contextmanager
def _bounded(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="star-rft-export-") as spill:
        con.execute(f"set memory_limit = '{MEMORY}'")
        con.execute(f"set temp_directory = '{spill}'")
        con.execute("set threads = 1")
        yield


def _examples(work: _Export) -> File:
    config, material, job = work.run.config, work.material, work.job
    assert material is not None
    if not config["train"]:
        raise RunError(
            f"{work.folder.path}: trains on preferences only (train: null), so there are no examples: --format dpo"
        )

    def items() -> Iterator[ExampleRow]:
        for number in job.rounds:
            most = config["train"]["max_tokens"]
            yield from imitated(material, round_index=number, max_tokens=most, tally=work.tally)

    stops = material.spec.origin.stops
    tokens = job.tokens and not work.is_hub
    layout = for_examples(job.tool, material.prompter, stops=stops, joined=work.is_hub, tokens=tokens)
    total = sum(_count_of_examples(material, number) for number in job.rounds)
    return _rows(work, "sft", layout, items(), total, nothing="nothing was selected, so nothing was trained on")


def _count_of_examples(material: Material, round_index: int) -> int:
    query = "select count(*) from selection where in_round = ? and is_selected"
    ((selected,),) = material.con.execute(query, [round_index]).fetchall()
    spec = material.of_round(round_index)
    anchor = sum(problem.id not in spec.quarantined for problem in spec.anchor)
    problems = sum(problem not in spec.quarantined for problem in spec.problems)
    return int(selected) + sum(spec.mixture.counts(selected, problems=problems, anchor=anchor))


def _preferences(work: _Export) -> File:
    config, material, job = work.run.config, work.material, work.job
    assert material is not None
    section, scorer = config["preference"], config["scorer"]
    if not section:
        set_against_incorrect(
            work.con,
            rounds=job.rounds,
            candidates_of=config["select"]["rounds"],
            seed=config["seed"],
            limit=job.pairs,
            scorer_decides=bool(scorer and scorer["decides"]),
        )

    def items() -> Iterator[PreferenceRow]:
        for number in job.rounds:
            most = section["max_tokens"] if section else None
            yield from compared(material, round_index=number, max_tokens=most, tally=work.tally)

    stops = material.spec.origin.stops
    layout = for_preferences(job.tool, material.prompter, stops=stops, tokens=job.tokens and not work.is_hub)
    total = count_of_pairs(work.con, job.rounds)
    nothing = "no selected trace can be set against a worse one of its problem"
    return _rows(work, "dpo", layout, items(), total, nothing=nothing)


def _rows(work: _Export, kind: Kind, layout: Layout[Any], items: Iterator[Any], total: int, *, nothing: str) -> File:
    """Write a file of examples or preferences, with what LLaMA-Factory reads of it; `nothing` says why it is empty."""
    name = f"data/{kind}.parquet" if work.is_hub else f"{kind}.jsonl"
    rows = work.written(name, layout.schema, in_batches((layout.row(item) for item in items), layout.schema), total)
    if not rows:
        raise RunError(f"{work.where}: {nothing}")
    if work.job.tool == "llama-factory":
        is_preference = kind == "dpo"
        info = dataset_info(
            dataset_name(work.run.config, is_preference=is_preference),
            name,
            is_chat=work.run.is_chat,
            is_preference=is_preference,
        )
        (work.into / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    return File(kind, name, rows, {column: WORDS[column] for column in layout.columns})


def _traces(work: _Export) -> File:
    con, job = work.con, work.job
    wanted: dict[str, Any] = {"split": job.split, "include": job.include}
    total = traces.count(con, job.rounds, **wanted)
    if not total:
        raise RunError(f"{work.where} has no traces of {job.split} to include as {job.include!r}")
    reader = traces.traces(con, job.rounds, **wanted, tokens=job.tokens)
    name = "data/traces.parquet" if work.is_hub else f"traces.{job.format}"
    work.written(name, reader.schema, iter(reader), total)
    return File("traces", name, total, traces.COLUMNS | (traces.TOKENS if job.tokens else {}))


_WRITERS = {"sft": _examples, "dpo": _preferences, "traces": _traces}
