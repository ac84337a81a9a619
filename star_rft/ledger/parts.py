"""From traces to parts: Parquet files with a line that names them. No manifest is touched here, so any process that
sees the folder may write parts; they count once the line is in the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from star_rft.files import write_table
from star_rft.ledger.manifest import Line
from star_rft.ledger.schemas import SAMPLES, SCORES, VERDICTS
from star_rft.select.keys import KEY_VERSION, keys_of
from star_rft.types import Sample
from verifiers.types import Verdict

FIRST = 0  # the `part` of a sample's first verdict; those that supersede it have larger ones


def write_unit(
    folder: Path, unit: str, pairs: Sequence[tuple[Sample, Verdict]], *, seconds: Mapping[str, float], tag: str = ""
) -> Line:
    """Write the samples and verdicts of a unit and return its line. `tag` keeps two writers of one unit apart."""
    tables = {
        "samples": pa.Table.from_pylist([_sample_row(sample) for sample, _ in pairs], schema=SAMPLES),
        "verdicts": verdict_table(((s.id, s.text, verdict) for s, verdict in pairs), part=FIRST),
    }
    tokens = sum(len(sample.token_ids) for sample, _ in pairs)
    return described(folder, unit, write(folder, unit + tag, tables), rows=len(pairs), tokens=tokens, seconds=seconds)


def write(folder: Path, name: str, tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Write a part for each table; return their names, relative to the folder."""
    parts = {table: f"{table}/{name}.parquet" for table in tables}
    for table, path in parts.items():
        write_table(folder / path, tables[table])
    return parts


def described(folder: Path, unit: str, parts: Mapping[str, str], **figures: Any) -> Line:
    """Return the line of a unit: its parts with their checksums and sizes."""
    return {"unit": unit, "parts": dict(parts), **marks(folder, parts), **figures}


def marks(folder: Path, parts: Mapping[str, str]) -> Line:
    """Return what a part is known by again: its SHA-256, and its size and time for a quick look."""
    stats = {table: (folder / path).stat() for table, path in parts.items()}
    return {
        "sha256": {table: sha256(folder / path) for table, path in parts.items()},
        "bytes": {table: stat.st_size for table, stat in stats.items()},
        "mtime_ns": {table: stat.st_mtime_ns for table, stat in stats.items()},
    }


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verdict_table(rows: Iterable[tuple[str, str, Verdict]], *, part: int) -> pa.Table:
    """Return the table of (sample id, text, verdict) rows, with the dedup keys of the texts."""
    return pa.Table.from_pylist([_verdict_row(*row, part=part) for row in rows], schema=VERDICTS)


def score_table(scorer: str, version: str, rows: Sequence[tuple[str, float | None, str]], *, part: int) -> pa.Table:
    """Return the table of a scorer's (sample id, score, status) rows."""
    ids, scores, statuses = (pa.array(list(column)) for column in zip(*rows, strict=True))
    count = len(rows)
    columns = [ids, [scorer] * count, [version] * count, scores, statuses, [part] * count]
    return pa.table(columns, names=SCORES.names).cast(SCORES)


def _sample_row(sample: Sample) -> dict[str, Any]:
    fields = {name: getattr(sample, name) for name in SAMPLES.names if name not in ("sample_id", "tokens")}
    return {"sample_id": sample.id, "tokens": len(sample.token_ids), **fields}


def _verdict_row(sample_id: str, text: str, verdict: Verdict, *, part: int) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "verifier": verdict.verifier,
        "version": verdict.version,
        "status": verdict.status,
        "score": verdict.score,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "verify_seconds": verdict.seconds,
        **key_columns(text, verdict.verifier),
        "part": part,
    }


def key_columns(text: str, verifier: str) -> dict[str, Any]:
    """Return what is found in a text once, when it is verified."""
    keys = keys_of(text, verifier)
    return {
        "text_key": keys.text,
        "equation_key": keys.equations,
        "program_key": keys.program,
        "false_steps": keys.false_steps,
        "key_version": KEY_VERSION,
    }
