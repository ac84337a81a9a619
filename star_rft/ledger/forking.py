"""A part of a ledger becomes the beginning of another; what both hold is on the disk once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_rft.files import whole, write_text
from star_rft.ledger.manifest import SCHEMA, Line, Manifest
from star_rft.ledger.parts import marks
from star_rft.ledger.schemas import SAMPLES, VERDICTS


def fork(
    source: Manifest, folder: Path, *, keeps_unit: Callable[[str], bool], keeps_row: Callable[[int, str], bool]
) -> None:
    """Write a ledger into `folder` that holds some units of `source`, in their order.

    `keeps_row` says of a sample's round and split what `keeps_unit` says of its unit's name: units that were put
    together are told apart by it.
    """
    lines: list[Line] = [{"schema": SCHEMA, "follows": source.ordinal}]
    lines += [{"decoding": decoding} for decoding in source.decodings()]
    for group in source.groups.values():
        units = source.units_of(group)
        kept = [unit for unit in units if keeps_unit(unit)]
        if not kept:
            continue
        changed: dict[str, Any] = {}
        if len(kept) == len(units):
            for part in group["parts"].values():
                link(source.folder / part, folder / part)
        else:
            changed = _filtered(source.folder, folder, group, keeps_row)
        if "compacted" in group:
            lines += [source.units[unit] for unit in kept]
            lines.append({**group, "of": kept, "units": kept, **changed})
        else:
            lines.append(group)
    write_text(folder / "manifest", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def link(file: Path, target: Path) -> None:
    """Give a file a second name; where the disk cannot, or it is another disk, copy it with its time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def _filtered(source: Path, folder: Path, group: Line, keeps_row: Callable[[int, str], bool]) -> Line:
    """Write the kept rows of a group's parts, a row group in memory at a time; return what changes in its line."""
    samples, verdicts = (group["parts"][table] for table in ("samples", "verdicts"))
    ids: list[pa.Array] = []

    def of_samples(rows: pa.Table) -> pa.Table:
        pairs = zip(rows["round"].to_pylist(), rows["split"].to_pylist(), strict=True)
        kept = rows.filter(pa.array([keeps_row(*pair) for pair in pairs], pa.bool_()))
        ids.extend(kept["sample_id"].chunks)
        return kept

    def of_verdicts(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows["sample_id"], value_set=pa.chunked_array(ids, pa.string())))

    _rewrite(source / samples, folder / samples, SAMPLES, of_samples)
    _rewrite(source / verdicts, folder / verdicts, VERDICTS, of_verdicts)
    return {**marks(folder, group["parts"]), "rows": sum(map(len, ids))}


def _rewrite(source: Path, target: Path, schema: pa.Schema, kept: Callable[[pa.Table], pa.Table]) -> None:
    with (
        pq.ParquetFile(source) as parts,
        whole(target) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for number in range(parts.num_row_groups):
            writer.write_table(kept(parts.read_row_group(number)).cast(schema))
