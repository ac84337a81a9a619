"""Atomic writing of files and folders, JSON lines that survive a crash, and the lock on a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.errors import RunError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder; when the block succeeds it is synced to disk and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; RunError with the path for one that is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all."""
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_batches(path: Path, reader: pa.RecordBatchReader, schema: pa.Schema | None = None) -> None:
    """Write a Parquet file batch by batch, cast to `schema` if one is given: one batch is in memory at a time."""
    with whole(path) as temporary, pq.ParquetWriter(temporary, schema or reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch if schema is None else batch.cast(schema))


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line and sync it to disk. A crash may leave a last line without its end, see `read_lines`."""
    with path.open("a") as out:
        out.write(json.dumps(value, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())


def read_lines(path: Path, *, mends: bool = True) -> list[Any]:
    """Return the JSON lines of a file, without a last line that a crash has torn; none where there is no file.

    Args:
        path: The file.
        mends: Cut a torn last line off the file. False where another process may be writing it.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if mends and end != len(data):
        os.truncate(path, end)
    return [json.loads(line) for line in data[:end].splitlines()]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; RunError if another process has it. The kernel drops it if this process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder}: another process is working on this run; wait for it or stop it") from None
        yield


def sync(path: Path) -> None:
    """Sync a file, or the list of names of a folder, to disk.

    Without it a crash may leave a renamed file that is empty: the rename can reach the disk before the content.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync a folder and everything in it to disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder in the same place; when the block succeeds it is synced and renamed to `folder`."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    sync_folder(partial)
    partial.replace(folder)
    sync(folder.parent)
