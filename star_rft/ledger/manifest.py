"""The manifest of a ledger: append-only JSON lines that name the parts that count.

Each line is one event: the `schema` (first line), a `decoding` that is used, a `unit` that was committed, units whose
parts were merged (`compacted`), or units that were `lost` with a damaged part. Applying the lines in order gives what
counts now. Rows of verdicts and scores have the number of lines before their own as `ordinal`, so that newer rows have
larger ones; a forked ledger starts at the number of its source (`follows`).

A group is the parts that were written together: one unit, or the units of one merge.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from star_rft.errors import RunError
from star_rft.files import append_line, read_lines

SCHEMA = 6  # of manifest and parts; a ledger of another one is refused

Line = dict[str, Any]


class Manifest:
    """The manifest in `folder`. Only the process that holds the run's lock may append.

    Attributes:
        lines: All lines, in order.
        units: The line of each committed unit, by its name, oldest first.
        groups: The line of each group whose parts count, by its name, oldest first.
        lost: The line of each unit that was lost and not drawn again, by its name.
    """

    def __init__(self, folder: Path, *, mends: bool) -> None:
        """Read the lines; `mends` cuts a torn last one off. RunError for a ledger of another schema."""
        self.folder = folder
        self.path = folder / "manifest"
        self.lines: list[Line] = []
        self.units: dict[str, Line] = {}
        self.groups: dict[str, Line] = {}
        self.lost: dict[str, Line] = {}
        lines = read_lines(self.path, mends=mends)
        self.schema = lines[0].get("schema", 0) if lines else SCHEMA
        if self.schema != SCHEMA:
            raise RunError(
                f"{self.path}: its schema is {self.schema!r}, and this star-rft reads {SCHEMA} only: another version"
                " wrote it. Use that version, or begin another run"
            )
        for line in lines:
            self._take(line)

    def append(self, line: Line) -> None:
        """Append a line and sync it to disk; from then on it counts."""
        append_line(self.path, line)
        self._take(line)

    @property
    def ordinal(self) -> int:
        """Return the `ordinal` of rows that are appended next."""
        return len(self.lines) + (int(self.lines[0].get("follows", 0)) if self.lines else 0)

    def parts(self, table: str) -> list[Path]:
        """Return the files of a table that count, oldest first."""
        return [self.folder / line["parts"][table] for line in self.groups.values() if table in line["parts"]]

    def named(self) -> set[str]:
        """Return every part that counts, as a path relative to the folder."""
        return {path for line in self.groups.values() for path in line["parts"].values()}

    def decodings(self) -> list[Line]:
        """Return the recorded decodings, as rows of the table DECODINGS."""
        return [line["decoding"] for line in self.lines if "decoding" in line]

    def units_of(self, group: Line) -> list[str]:
        """Return the names of the units whose rows a group holds: one, or those that were merged."""
        return list(group["units"]) if "compacted" in group else [group["unit"]]

    def _take(self, line: Line) -> None:
        self.lines.append(line)
        if "unit" in line:
            self.units[line["unit"]] = self.groups[line["unit"]] = line
            self.lost.pop(line["unit"], None)
        elif "compacted" in line:
            self._drop(line["of"])
            self.groups[line["compacted"]] = line
        elif "lost" in line:
            self._drop([line["group"]])
            for unit in line["lost"]:
                self.lost[unit] = self.units.pop(unit)

    def _drop(self, groups: Iterable[str]) -> None:
        for name in groups:
            del self.groups[name]
