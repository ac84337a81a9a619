"""Parts that are not what was written: found by size and checksum, set aside, and their units given up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from star_rft.files import sync
from star_rft.ledger.manifest import Line, Manifest
from star_rft.ledger.parts import sha256

ASIDE = "damaged"


@dataclass(frozen=True, slots=True)
class Damage:
    """A part that is not what was written; `group` is the name of the parts that belong together with it."""

    group: str
    part: str
    why: str


def damaged(manifest: Manifest, *, reads_all: bool = False) -> list[Damage]:
    """Return the parts that are not what was written, one a group at most.

    A part with the size and time of its writing is believed, unless `reads_all`; any other is read and its SHA-256
    compared, on all cores (hashing holds no lock of Python's).
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
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
        return sha256(path) == checksum
    except OSError:  # a disk that cannot read it back
        return False


def set_aside(manifest: Manifest, damage: Damage) -> str:
    """Move the parts of a group out of the way and give its units up; return what happened in a sentence."""
    line = manifest.groups[damage.group]
    units = manifest.units_of(line)
    aside = manifest.folder / ASIDE
    aside.mkdir(exist_ok=True)
    # The line comes first: files that nothing names are removed, and a damaged one that still counts is found again.
    manifest.append({"lost": units, "group": damage.group, "part": damage.part, "why": damage.why})
    for part in line["parts"].values():
        path = manifest.folder / part
        if path.exists():
            os.replace(path, aside / part.replace("/", "-"))
    sync(aside)
    again = "its samples are drawn again" if "samples" in line["parts"] else "its rows are made again when asked for"
    return f"{manifest.folder / damage.part} {damage.why}: {line['rows']:,} rows were set aside in {aside}, and {again}"
