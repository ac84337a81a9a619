"""Folders that are there whole or not at all, whatever kills the process and when."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from star_rft.training.errors import TrainingError

MARKER = "whole.json"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a temporary sibling to write into; it takes the place of `folder` when the block ends well."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    sync(partial)
    partial.replace(folder)
    _sync_one(folder.parent)


def sync(folder: Path) -> None:
    """Return when the folder and all in it are on the disk: a rename may otherwise outrun the content."""
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mark_whole(checkpoint: Path, note: Mapping[str, Any]) -> None:
    """Mark a trainer's checkpoint, which is not written atomically, and remove the older ones."""
    sync(checkpoint)
    unfinished = checkpoint / f"{MARKER}.partial"
    unfinished.write_text(json.dumps(dict(note)))
    _sync_one(unfinished)
    unfinished.replace(checkpoint / MARKER)
    _sync_one(checkpoint)
    for older in checkpoint.parent.glob("checkpoint-*"):
        if older != checkpoint:
            shutil.rmtree(older)


def last_whole(work_dir: Path, *, fingerprint: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest marked checkpoint of this very training and its note; remove those that are not whole
    or belong to another."""
    found: list[tuple[int, Path, dict[str, Any]]] = []
    for checkpoint in sorted(work_dir.glob("checkpoint-*")):
        marker = checkpoint / MARKER
        note = json.loads(marker.read_text()) if marker.exists() else {}
        if note.get("fingerprint") == fingerprint:
            found.append((note["step"], checkpoint, note))
        else:
            shutil.rmtree(checkpoint)
    newest = max(found, default=None, key=lambda entry: entry[0])
    return None if newest is None else newest[1:]


def refuse_foreign(work_dir: Path) -> None:
    """Raise TrainingError where the folder, which will be removed, holds more than such checkpoints."""
    foreign = [path.name for path in sorted(work_dir.glob("*")) if not path.name.startswith("checkpoint-")]
    if foreign:
        raise TrainingError(f"work_dir {work_dir} holds {foreign[0]}: give training a folder of its own")
