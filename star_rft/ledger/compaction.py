"""Merging of small parts, so that millions of traces are hundreds of files instead of tens of thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.files import whole
from star_rft.ledger.manifest import Line, Manifest
from star_rft.ledger.parts import marks
from star_rft.ledger.schemas import SAMPLES, VERDICTS

SMALL = 65_536  # rows: a group of fewer is merged with its neighbours
LARGE_BYTES = 256 * 2**20  # a group of this size on disk is not merged, however few its rows
ENOUGH = 32  # a last run of fewer groups is left for a later merge
GROUP_BYTES = 64 * 2**20  # of a row group in memory, which bounds what a reader holds at once

SCHEMAS = {"samples": SAMPLES, "verdicts": VERDICTS}


def compact(manifest: Manifest, *, small: int = SMALL, enough: int = ENOUGH) -> None:
    """Merge neighbouring small groups: write their rows into one group, which counts in their place.

    A crash before the manifest's line leaves the merged parts, a crash after it the replaced ones; the next writer
    removes them, as the manifest does not name them.
    """
    for names in list(_runs(manifest, small=small, enough=enough)):
        _merge(manifest, names)


def _runs(manifest: Manifest, *, small: int, enough: int) -> Iterator[list[str]]:
    """Yield the names of neighbouring groups to merge: each run but the last has `small` rows or more.

    Only groups of samples with their verdicts are merged, not later verdicts or scores.
    """
    run: list[str] = []
    rows = 0
    for name, line in manifest.groups.items():
        is_large = line["rows"] >= small or sum(line["bytes"].values()) >= LARGE_BYTES
        if set(line["parts"]) != set(SCHEMAS) or is_large:
            continue
        run.append(name)
        rows += line["rows"]
        if rows >= small:
            yield run
            run, rows = [], 0
    if len(run) >= enough:
        yield run


def _merge(manifest: Manifest, names: Sequence[str]) -> None:
    lines = [manifest.groups[name] for name in names]
    number = sum("compacted" in line for line in manifest.lines)
    name = f"compacted-{number:06d}"
    parts = {table: f"{table}/{name}.parquet" for table in SCHEMAS}
    for table, part in parts.items():
        _concatenate(manifest, [line["parts"][table] for line in lines], part, table)
    line: Line = {
        "compacted": name,
        "of": list(names),
        "units": [unit for line in lines for unit in manifest.units_of(line)],
        "parts": parts,
        **marks(manifest.folder, parts),
        "rows": sum(line["rows"] for line in lines),
    }
    manifest.append(line)


def _concatenate(manifest: Manifest, sources: Sequence[str], target: str, table: str) -> None:
    """Write the rows of parts one after another, in row groups of `GROUP_BYTES` or a little more."""
    schema, waiting = SCHEMAS[table], list[pa.Table]()
    with (
        whole(manifest.folder / target) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for source in sources:
            waiting.append(pq.read_table(manifest.folder / source, schema=schema))
            if sum(rows.nbytes for rows in waiting) >= GROUP_BYTES:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
