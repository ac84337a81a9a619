"""The folder of an export: written whole or not at all, and never over something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.errors import UserError
from star_rft.files import whole_folder

Write = Callable[[pa.RecordBatch], None]

CARD = "README.md"
INFO = "dataset_info.json"
# All that an export writes: a folder that holds anything else is never replaced.
NAMES = {CARD, INFO, "data", "sft.jsonl", "dpo.jsonl", "traces.jsonl", "traces.parquet"}
FILES = (".jsonl", ".json", ".parquet", ".md")
ROWS = 2048  # in memory at once


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a folder to write into, which is `out` once the block ends well; else nothing is left of it.

    With `force` it takes the place of an earlier export. Raises UserError for anything else in its way.
    """
    refuse(out, force=force)
    fresh, old = (out.with_name(f".{out.name}.{kind}") for kind in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with whole_folder(fresh) as folder:
            yield folder
    finally:
        shutil.rmtree(fresh.with_name(f".{fresh.name}.partial"), ignore_errors=True)
    if out.exists():  # a folder cannot be replaced at once, unless it is empty
        os.replace(out, old)
    os.replace(fresh, out)
    shutil.rmtree(old, ignore_errors=True)


def refuse(out: Path, *, force: bool) -> None:
    """Raise UserError where an export cannot be written; nothing is changed."""
    if out.suffix in FILES:
        raise UserError(f"--out {out}: is the name of a file, and an export is a folder: its files and their card")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out {out}: is there, and is no folder")
    there = sorted(path.name for path in out.iterdir())
    if there and not force:
        raise UserError(f"{out}: is there already; --force replaces it, --out names another folder")
    if foreign := [name for name in there if name not in NAMES]:
        raise UserError(f"{out}: holds {foreign[0]}, which no export wrote; remove it, or name another folder by --out")


@contextmanager
def opened(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Open a JSONL or Parquet file, by its name, for batches of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield parquet.write_batch
        return
    with path.open("w", encoding="utf-8") as lines:

        def write(batch: pa.RecordBatch) -> None:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())

        yield write


def in_batches(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Gather rows; only as many as a batch holds are in memory."""
    left = iter(rows)
    while some := list(islice(left, ROWS)):
        yield pa.RecordBatch.from_pylist(some, schema=schema)
