"""A trainer's checkpoints: which of them are whole, and which training they belong to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from star_rft.errors import TrainingError
from star_rft.files import sync, sync_folder

MARKER = "whole.json"


def mark_whole(checkpoint: Path, note: Mapping[str, Any]) -> None:
    """Mark a trainer's checkpoint, which is not written atomically, and remove the older ones."""
    sync_folder(checkpoint)
    unfinished = checkpoint / f"{MARKER}.partial"
    unfinished.write_text(json.dumps(dict(note)))
    sync(unfinished)
    unfinished.replace(checkpoint / MARKER)
    sync(checkpoint)
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
