"""Ledgers of older schemas are brought up to date, a step a schema; nothing of them is lost on the way.

1: samples did not say whether they leak their hint, verdicts held fewer keys. 2: lines did not hold sizes and times.
3: samples did not say whether their ids were sampled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.errors import RunError
from star_rft.files import write_table, write_text
from star_rft.ledger.manifest import SCHEMA, Line, Manifest
from star_rft.ledger.parts import key_columns, marks, sha256
from star_rft.ledger.schemas import SAMPLES, VERDICTS

log = logging.getLogger("star_rft")

LEAST_READABLE = 4  # its parts have the columns of today


def require_readable(manifest: Manifest) -> None:
    """Raise RunError for a ledger whose parts must be rewritten before they can be read."""
    if manifest.schema < LEAST_READABLE:
        run = manifest.folder.parent
        raise RunError(
            f"{manifest.path}: schema {manifest.schema} of an older star-rft: bring it up to date with star-rft ledger"
            f" {run}"
        )


def migrated(manifest: Manifest) -> Manifest:
    """Bring a ledger up to date: its parts first, its manifest last and whole, so that a crash repeats the work."""
    lines = [line for line in manifest.lines if "schema" not in line]
    for schema in range(manifest.schema, SCHEMA):
        lines = [_STEPS[schema](manifest.folder, line) if "parts" in line else line for line in lines]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [{"schema": SCHEMA}, *lines])
    write_text(manifest.path, text)
    log.warning("%s: brought from schema %s to %s", manifest.path, manifest.schema, SCHEMA)
    return Manifest(manifest.folder, mends=True)


def _with_new_columns(folder: Path, line: Line) -> Line:
    """1 to 2: rewrite the parts with the columns that they lack. A damaged part stays what it is, to be found later."""
    sums = dict(line["sha256"])
    for table, part in line["parts"].items():
        path = folder / part
        if not path.exists() or table not in _COLUMNS:
            continue
        if not _is_rewritten(path, table):
            if sha256(path) != sums[table]:
                continue
            write_table(path, _COLUMNS[table](folder, line, pq.read_table(path)))
        sums[table] = sha256(path)
    return {**line, "sha256": sums}


def _is_rewritten(path: Path, table: str) -> bool:
    """Whether a part has the columns of today: an earlier step, or a migration that was interrupted, wrote them."""
    try:
        return bool(pq.read_schema(path).names == _SCHEMAS[table].names)
    except (pa.ArrowException, OSError):
        return False


def _with_origin_of_ids(folder: Path, line: Line) -> Line:
    """3 to 4: rewrite the parts of samples, and note them anew where they were whole."""
    if "samples" not in line["parts"]:
        return line
    samples = {table: part for table, part in line["parts"].items() if table == "samples"}
    new = _with_new_columns(folder, {**line, "parts": samples})
    if new["sha256"] == line["sha256"]:
        return line
    noted = marks(folder, samples)
    return {**line, **{name: {**line[name], **noted[name]} for name in noted}}


def _samples_of_today(folder: Path, line: Line, rows: pa.Table) -> pa.Table:
    """Add the columns that are missing. Only engines that gave no ids gave no log-probability either."""
    if "leaks_hint" not in rows.column_names:
        rows = rows.append_column("leaks_hint", pa.array([False] * rows.num_rows))
    return rows.append_column("ids_are_sampled", rows["logprob"].is_valid()).cast(SAMPLES)


def _verdicts_of_1(folder: Path, line: Line, rows: pa.Table) -> pa.Table:
    texts = _texts(folder, line)
    known = [row for row in rows.to_pylist() if row["sample_id"] in texts]
    found = [{**row, **key_columns(texts[row["sample_id"]], row["verifier"])} for row in known]
    return pa.Table.from_pylist(found, schema=VERDICTS)


def _texts(folder: Path, line: Line) -> dict[str, str]:
    """Return the texts by sample: of the line's own samples, else of all that can be read."""
    own = line["parts"].get("samples")
    texts: dict[str, str] = {}
    for file in [folder / own] if own else sorted((folder / "samples").glob("*.parquet")):
        try:
            rows = pq.read_table(file, columns=["sample_id", "text"]).to_pylist()
        except (pa.ArrowException, OSError):  # it will be set aside, and what is drawn again has verdicts of its own
            continue
        texts |= {row["sample_id"]: row["text"] for row in rows}
    return texts


def _with_sizes(folder: Path, line: Line) -> Line:
    """2 to 3: note sizes and times. The time of a part that is not what was written is 0, so that it is read again."""
    there = {table: part for table, part in line["parts"].items() if (folder / part).exists()}
    found: dict[str, Any] = marks(folder, there)
    sums = line["sha256"]
    return {
        **line,
        "bytes": {table: found["bytes"].get(table, 0) for table in line["parts"]},
        "mtime_ns": {
            table: found["mtime_ns"][table] if found["sha256"].get(table) == sums[table] else 0
            for table in line["parts"]
        },
    }


_SCHEMAS = {"samples": SAMPLES, "verdicts": VERDICTS}
_COLUMNS = {"samples": _samples_of_today, "verdicts": _verdicts_of_1}
_STEPS: dict[int, Callable[[Path, Line], Line]] = {1: _with_new_columns, 2: _with_sizes, 3: _with_origin_of_ids}
