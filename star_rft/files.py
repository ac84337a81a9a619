"""Writes files whole or not at all, appends lines that survive a crash, and locks folders."""

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
    """Yield a temporary sibling to write to; on success it is synced and takes `path`'s place at once."""
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
    with whole(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote; raise RunError for what is no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None


def write_table(path: Path, table: pa.Table) -> None:
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_batches(path: Path, reader: pa.RecordBatchReader, schema: pa.Schema | None = None) -> None:
    """Write rows as they come, which never are in memory together; `schema` is what they are cast to."""
    with whole(path) as temporary, pq.ParquetWriter(temporary, schema or reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch if schema is None else batch.cast(schema))


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line and sync it. A crash leaves at most a last line without an end, see `read_lines`."""
    with path.open("a") as out:
        out.write(json.dumps(value, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())


def read_lines(path: Path, *, mends: bool = True) -> list[Any]:
    """Read JSON lines but for a torn last one: what it would have named was never committed.

    It is cut off, unless another process may be writing it just now.
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
    """Hold a run folder for this process. The kernel drops the lock when the process dies, however it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder}: another process is working on this run; wait for it or stop it") from None
        yield


def sync(path: Path) -> None:
    """Return when a file, or the names in a folder, are on the disk: a rename may otherwise outrun the content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when a folder and all in it are on the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder to write into; it takes the place of `folder` when the block ends well."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    sync_folder(partial)
    partial.replace(folder)
    sync(folder.parent)
