"""Parts of a ledger: Parquet files, their checksums, and the manifest line that names them.

Writing a part does not change the manifest, so any process that sees the folder may write parts. They count once the
process that holds the run's lock has appended their line.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from star_rft.files import sync, write_table
from star_rft.ledger.keys import KEY_VERSION, keys_of
from star_rft.ledger.manifest import Line, Manifest
from star_rft.ledger.schemas import SAMPLES, SCORES, VERDICTS
from star_rft.types import Sample
from verifiers.types import Verdict
from verifiers.workers.cores import usable_cores

FIRST = 0  # `ordinal` of a sample's first verdict; those of later verdicts are larger


def write_unit(
    folder: Path, unit: str, pairs: Sequence[tuple[Sample, Verdict]], *, seconds: Mapping[str, float], tag: str = ""
) -> Line:
    """Write the samples and verdicts of a unit, one part each.

    Args:
        folder: The folder of the ledger.
        unit: Name of the unit.
        pairs: Each sample with its verdict.
        seconds: Time spent on the unit by stage, for the line.
        tag: Added to the names of the files; two processes that write one unit differ in it.

    Returns:
        The line for the manifest.
    """
    tables = {
        "samples": pa.Table.from_pylist([_sample_row(sample) for sample, _ in pairs], schema=SAMPLES),
        "verdicts": verdict_table(((s.id, s.text, verdict) for s, verdict in pairs), ordinal=FIRST),
    }
    tokens = sum(len(sample.token_ids) for sample, _ in pairs)
    return described(folder, unit, write(folder, unit + tag, tables), rows=len(pairs), tokens=tokens, seconds=seconds)


def write(folder: Path, name: str, tables: Mapping[str, pa.Table]) -> dict[str, str]:
    """Write one part a table and return their paths by table, relative to the folder."""
    parts = {table: f"{table}/{name}.parquet" for table in tables}
    for table, path in parts.items():
        write_table(folder / path, tables[table])
    return parts


def described(folder: Path, unit: str, parts: Mapping[str, str], **figures: Any) -> Line:
    """Return the manifest line of a unit: its parts, their `marks`, and figures such as `rows` and `tokens`."""
    return {"unit": unit, "parts": dict(parts), **marks(folder, parts), **figures}


def marks(folder: Path, parts: Mapping[str, str]) -> Line:
    """Return SHA-256, size in bytes and modification time of each part, by which `damaged` checks them."""
    stats = {table: (folder / path).stat() for table, path in parts.items()}
    return {
        "sha256": {table: _sha256(folder / path) for table, path in parts.items()},
        "bytes": {table: stat.st_size for table, stat in stats.items()},
        "mtime_ns": {table: stat.st_mtime_ns for table, stat in stats.items()},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verdict_table(rows: Iterable[tuple[str, str, Verdict]], *, ordinal: int) -> pa.Table:
    """Return the table VERDICTS of (sample id, text, verdict) rows; the dedup keys of the texts are computed here."""
    return pa.Table.from_pylist([_verdict_row(*row, ordinal=ordinal) for row in rows], schema=VERDICTS)


def score_table(scorer: str, version: str, rows: Sequence[tuple[str, float | None, str]], *, ordinal: int) -> pa.Table:
    """Return the table SCORES of a scorer's (sample id, score, status) rows."""
    ids, scores, statuses = (pa.array(list(column)) for column in zip(*rows, strict=True))
    count = len(rows)
    columns = [ids, [scorer] * count, [version] * count, scores, statuses, [ordinal] * count]
    return pa.table(columns, names=SCORES.names).cast(SCORES)


def _sample_row(sample: Sample) -> dict[str, Any]:
    fields = {name: getattr(sample, name) for name in SAMPLES.names if name not in ("sample_id", "tokens")}
    return {"sample_id": sample.id, "tokens": len(sample.token_ids), **fields}


def _verdict_row(sample_id: str, text: str, verdict: Verdict, *, ordinal: int) -> dict[str, Any]:
    keys = keys_of(text, verdict.verifier)
    return {
        "sample_id": sample_id,
        "verifier": verdict.verifier,
        "version": verdict.version,
        "status": verdict.status,
        "score": verdict.score,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "verify_seconds": verdict.seconds,
        "text_key": keys.text,
        "equation_key": keys.equations,
        "program_key": keys.program,
        "invalid_steps": keys.invalid_steps,
        "key_version": KEY_VERSION,
        "ordinal": ordinal,
    }


ASIDE = "damaged"  # the folder that damaged parts are moved to


@dataclass(frozen=True, slots=True)
class Damage:
    """A part whose content is not what was written; `group` names the parts that were written together with it."""

    group: str
    part: str
    why: str


def damaged(manifest: Manifest, *, reads_all: bool = False) -> list[Damage]:
    """Return the parts whose content is not what was written, at most one a group.

    Args:
        manifest: The manifest that names them.
        reads_all: Compare the SHA-256 of every part. False: only of those whose modification time has changed.
    """
    # Hashing releases Python's global lock, so threads use all cores.
    with ThreadPoolExecutor(usable_cores()) as threads:
        found = threads.map(
            lambda item: next(_faults(manifest.folder, *item, reads_all=reads_all), None), manifest.groups.items()
        )
        return [damage for damage in found if damage is not None]


def _faults(folder: Path, group: str, line: Line, *, reads_all: bool) -> Iterator[Damage]:
    for table, part in line["parts"].items():
        try:
            stat = (folder / part).stat()
        except FileNotFoundError:
            yield Damage(group, part, "is missing")
            continue
        size = line["bytes"][table]
        if stat.st_size != size:
            yield Damage(group, part, f"has {stat.st_size:,} bytes instead of {size:,}")
        elif (reads_all or stat.st_mtime_ns != line["mtime_ns"][table]) and not _is_same(
            folder / part, line["sha256"][table]
        ):
            yield Damage(group, part, "has another SHA-256 than what was written")


def _is_same(path: Path, checksum: str) -> bool:
    try:
        return _sha256(path) == checksum
    except OSError:  # the disk cannot read it
        return False


def set_aside(manifest: Manifest, damage: Damage) -> str:
    """Record the units of a damaged group as lost and move its parts to `ASIDE`; return a sentence that says so."""
    line = manifest.groups[damage.group]
    units = manifest.units_of(line)
    aside = manifest.folder / ASIDE
    aside.mkdir(exist_ok=True)
    # The line comes first: after a crash here the parts are named by nothing, and the next writer removes them.
    manifest.append({"lost": units, "group": damage.group, "part": damage.part, "why": damage.why})
    for part in line["parts"].values():
        path = manifest.folder / part
        if path.exists():
            os.replace(path, aside / part.replace("/", "-"))
    sync(aside)
    again = "its samples are drawn again" if "samples" in line["parts"] else "its rows are made again when asked for"
    return f"{manifest.folder / damage.part} {damage.why}: {line['rows']:,} rows were set aside in {aside}, and {again}"
