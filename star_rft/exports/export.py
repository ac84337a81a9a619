"""Writes an export: rows into files, and their data card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_rft.errors import RunError
from star_rft.exports import describe, traces
from star_rft.exports.card_data import CardConfig
from star_rft.exports.cards import ExportCard, File, data_card
from star_rft.exports.files import CARD, INFO, in_batches, new_folder, opened
from star_rft.exports.formats import Format, Job, dataset_info, for_examples, for_preferences
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
    """What an export came to: its files with their rows, the card aside. `tokens` are of prompts and completions."""

    out: Path
    rounds: Sequence[int]
    files: dict[str, int]
    problems: int
    tokens: int
    too_long: int


@dataclass(frozen=True, slots=True)
class Work:
    """An export that is under way."""

    folder: RunFolder
    told: CardConfig
    con: duckdb.DuckDBPyConnection
    material: Material | None
    job: Job
    into: Path
    tally: Tally
    progress: Progress

    @property
    def texts(self) -> Material:
        assert self.material is not None  # only formats of traces do without
        return self.material

    @property
    def rounds(self) -> str:
        return ", ".join(map(str, self.job.rounds))


def export(
    folder: RunFolder,
    told: CardConfig,
    con: duckdb.DuckDBPyConnection,
    material: Material | None,
    job: Job,
    *,
    out: Path,
    force: bool,
    progress: Progress,
) -> ExportResult:
    """Write an export whole or not at all; `con` is open on the run's ledger, and only traces do without `material`.

    Raises UserError where there is nothing to write, or no place for it.
    """
    tally = Tally()
    with new_folder(out, force=force) as into, _bounded(con):
        work = Work(folder, told, con, material, job, into, tally, progress)
        exported = _EXPORTS[job.format](work)
        (into / CARD).write_text(data_card(folder, con, told, exported), encoding="utf-8")
    files = {file.name: file.rows for file in exported.files}
    tokens = tally.prompt_tokens + tally.completion_tokens
    return ExportResult(out, job.rounds, files, len(tally.problems), tokens, tally.too_long)


@contextmanager
def _bounded(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="star-rft-export-") as spill:
        con.execute(f"set memory_limit = '{MEMORY}'")
        con.execute(f"set temp_directory = '{spill}'")
        con.execute("set threads = 1")
        yield


# One function a format


def _sft(work: Work) -> ExportCard:
    file = _examples(work, "sft.jsonl")
    if work.job.tool == "llama-factory":
        _describe(work, file.name, is_preference=False)
    return describe.of_examples(work.told, work.job, work.tally, file)


def _dpo(work: Work) -> ExportCard:
    file = _preferences(work, "dpo.jsonl")
    if work.job.tool == "llama-factory":
        _describe(work, file.name, is_preference=True)
    return describe.of_preferences(work.told, work.job, work.tally, file)


def _trace_file(work: Work) -> ExportCard:
    file = _traces(work, f"traces.{work.job.format}")
    return describe.of_traces(work.told, work.job, file)


def _hub_folder(work: Work) -> ExportCard:
    config, files = work.told.config, []
    if config["train"]:
        files.append(_examples(work, "data/sft.parquet"))
    if config["preference"]:
        files.append(_preferences(work, "data/dpo.parquet"))
    files.append(_traces(work, "data/traces.parquet"))
    return describe.of_hub_folder(work.told, work.job, work.tally, files)


_EXPORTS: dict[Format, Callable[[Work], ExportCard]] = {
    "sft": _sft,
    "dpo": _dpo,
    "jsonl": _trace_file,
    "parquet": _trace_file,
    "hub-folder": _hub_folder,
}


# One function a kind of file


def _examples(work: Work, name: str) -> File:
    config, material = work.told.config, work.texts
    if not config["train"]:
        raise RunError(
            f"{work.folder.path}: trains on preferences only (train: null), so there are no examples: --format dpo"
        )
    more = {"max_tokens": config["train"]["max_tokens"], "tally": work.tally}

    def items() -> Iterator[ExampleRow]:
        for number in work.job.rounds:
            yield from imitated(material, round_index=number, **more)

    layout = for_examples(
        work.job.tool,
        material.prompter,
        stops=material.spec.origin.stops,
        joined=work.job.format == "hub-folder",
        tokens=work.job.tokens and work.job.format == "sft",
    )
    total = sum(_count_of_examples(material, number) for number in work.job.rounds)
    rows = _write(work, name, layout.schema, (layout.row(item) for item in items()), total)
    if not rows:
        raise RunError(f"{work.folder.path}: round {work.rounds}: nothing was selected, so nothing was trained on")
    return describe.examples_file(name, rows, layout, is_hub=work.job.format == "hub-folder")


def _count_of_examples(material: Material, round_index: int) -> int:
    query = "select count(*) from selection where in_round = ? and is_selected"
    ((selected,),) = material.con.execute(query, [round_index]).fetchall()
    spec = material.of_round(round_index)
    anchor = sum(problem.id not in spec.quarantined for problem in spec.anchor)
    problems = sum(problem not in spec.quarantined for problem in spec.problems)
    return int(selected) + sum(spec.mixture.counts(selected, problems=problems, anchor=anchor))


def _preferences(work: Work, name: str) -> File:
    material, section = work.texts, work.told.config["preference"]
    if not section:
        _rank(work)

    def items() -> Iterator[PreferenceRow]:
        for number in work.job.rounds:
            most = section["max_tokens"] if section else None
            yield from compared(material, round_index=number, max_tokens=most, tally=work.tally)

    total = count_of_pairs(work.con, work.job.rounds)
    layout = for_preferences(
        work.job.tool,
        material.prompter,
        stops=material.spec.origin.stops,
        tokens=work.job.tokens and work.job.format == "dpo",
    )
    rows = _write(work, name, layout.schema, (layout.row(item) for item in items()), total)
    if not rows:
        raise RunError(
            f"{work.folder.path}: round {work.rounds}: no selected trace can be set against a worse one of its problem"
        )
    return describe.preferences_file(name, rows, layout, is_hub=work.job.format == "hub-folder")


def _rank(work: Work) -> None:
    config = work.told.config
    scorer = config["scorer"]
    set_against_incorrect(
        work.con,
        rounds=work.job.rounds,
        candidates_of=config["select"]["rounds"],
        seed=config["seed"],
        limit=work.job.pairs,
        scorer_decides=bool(scorer and scorer["decides"]),
    )


def _traces(work: Work, name: str) -> File:
    con, job = work.con, work.job
    wanted: dict[str, Any] = {"split": job.split, "include": job.include}
    total = traces.count(con, job.rounds, **wanted)
    if not total:
        raise RunError(
            f"{work.folder.path}: round {work.rounds} has no traces of {job.split} to include as {job.include!r}"
        )
    reader = traces.traces(con, job.rounds, **wanted, tokens=job.tokens)
    with opened(work.into / name, reader.schema) as write, work.progress.stage(f"writing {name}", total) as advance:
        for batch in reader:
            write(batch)
            advance(batch.num_rows, 0)
    return describe.traces_file(name, total, tokens=job.tokens, is_hub=job.format == "hub-folder")


def _write(work: Work, name: str, schema: pa.Schema, rows: Iterator[dict[str, Any]], total: int) -> int:
    written = 0
    with opened(work.into / name, schema) as write, work.progress.stage(f"writing {name}", total) as advance:
        for batch in in_batches(rows, schema):
            write(batch)
            written += batch.num_rows
            advance(batch.num_rows, 0)
    return written


def _describe(work: Work, file: str, *, is_preference: bool) -> None:
    """Write what LLaMA-Factory wants to know of a file beside it."""
    name = describe.dataset_name(work.told, is_preference=is_preference)
    info = dataset_info(name, file, is_chat=work.told.is_chat, is_preference=is_preference)
    (work.into / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
