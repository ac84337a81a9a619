"""`Ledger`: commits units of samples with their verdicts, and opens them as tables of DuckDB."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from star_rft.files import whole, write_text
from star_rft.ledger import compaction, parts, views
from star_rft.ledger.manifest import SCHEMA, Line, Manifest
from star_rft.ledger.parts import marks
from star_rft.ledger.schemas import SAMPLES, VERDICTS
from star_rft.types import Decoding, Sample
from verifiers.types import Verdict

if TYPE_CHECKING:
    import duckdb

TABLES = ("samples", "verdicts", "scores")
log = logging.getLogger("star_rft")


class Ledger:
    """The ledger of one run folder, for any number of readers and one writer, whose threads may all write.

    Args:
        run_dir: The run folder; the ledger is its folder `ledger`.
        is_writer: Open it for writing, which only the process that holds the run's lock may do (`files.locked`).
            Damaged parts are set aside, with a warning, and files that the manifest does not name are removed.
        reads_all: As a writer, compare the SHA-256 of every part, not only of those whose modification time changed.

    Raises:
        RunError: Another version of star-rft wrote the ledger.
    """

    def __init__(self, run_dir: Path, *, is_writer: bool = False, reads_all: bool = False) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "ledger"
        self._lock = RLock()
        self._manifest = Manifest(self.folder, mends=is_writer)
        if is_writer:
            self._prepare(reads_all)

    @property
    def manifest(self) -> Path:
        """Return the file that names what counts; it grows with every commit."""
        return self._manifest.path

    def _prepare(self, reads_all: bool) -> None:
        for name in TABLES:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self._manifest.lines:
            self._manifest.append({"schema": SCHEMA})
        for damaged in parts.damaged(self._manifest, reads_all=reads_all):
            log.warning(parts.set_aside(self._manifest, damaged))
        self._remove_unnamed()

    def _remove_unnamed(self) -> None:
        named = self._manifest.named()
        for table in TABLES:
            for path in [*self.folder.glob(f"{table}/*.parquet"), *self.folder.glob(f"{table}/.*.tmp")]:
                if str(path.relative_to(self.folder)) not in named:
                    path.unlink()

    def units(self) -> dict[str, Line]:
        """Return the manifest line of each committed unit, by its name: its `rows`, `tokens` and `seconds`."""
        with self._lock:
            return dict(self._manifest.units)

    def lost(self) -> dict[str, Line]:
        """Return the units whose parts were found damaged and that have not been drawn again, by name."""
        with self._lock:
            return dict(self._manifest.lost)

    def summary(self) -> dict[str, int]:
        """Return the numbers of samples, units, lost units, parts and bytes, and the schema."""
        with self._lock:
            groups = self._manifest.groups.values()
            return {
                "schema": SCHEMA,
                "samples": sum(line["rows"] for line in groups if "samples" in line["parts"]),
                "units": len(self._manifest.units),
                "units_lost": len(self._manifest.lost),
                "parts": sum(len(line["parts"]) for line in groups),
                "bytes": sum(size for line in groups for size in line["bytes"].values()),
            }

    def files(self, *tables: str) -> list[list[Path]]:
        """Return, for each group that has exactly these tables, its files in the order of the tables.

        `files("samples", "verdicts")` are the drawn units, and `files("verdicts")` the later verdicts.
        """
        with self._lock:
            groups = [line["parts"] for line in self._manifest.groups.values()]
        return [[self.folder / found[table] for table in tables] for found in groups if set(tables) == set(found)]

    def record_decoding(self, decoding: Decoding) -> None:
        """Append a decoding to the table `decodings`, once."""
        with self._lock:
            if not any(found["decode_id"] == decoding.id for found in self._manifest.decodings()):
                self._manifest.append({"decoding": {"decode_id": decoding.id, **asdict(decoding)}})

    def commit(self, unit: str, pairs: Sequence[tuple[Sample, Verdict]], *, seconds: dict[str, float]) -> None:
        """Write a unit and append it; once this returns, its samples are not drawn again.

        Args:
            unit: Name of the unit, which the plan gave it.
            pairs: Each sample with its verdict.
            seconds: Time spent on the unit, by stage.
        """
        self.adopt(parts.write_unit(self.folder, unit, pairs, seconds=seconds))

    def adopt(self, line: Line) -> bool:
        """Append the line of a unit whose parts are written, as `parts.write_unit` returns it.

        Where the unit counts already, because another process has written it too, the parts of this line are removed.

        Returns:
            Whether the line was appended.
        """
        with self._lock:
            if line["unit"] not in self._manifest.units:
                self._manifest.append(line)
                return True
            for path in set(line["parts"].values()) - self._manifest.named():
                (self.folder / path).unlink(missing_ok=True)
            return False

    def supersede(self, unit: str, verdicts: Iterable[tuple[str, str, Verdict]]) -> None:
        """Append newer verdicts on committed samples as a unit; the older ones stay stored.

        Args:
            unit: Name of the unit.
            verdicts: (sample id, text of the sample, verdict) each.
        """
        table = parts.verdict_table(verdicts, ordinal=self._manifest.ordinal)
        self._append(unit, "verdicts", table)

    def score(self, unit: str, scorer: str, version: str, rows: Sequence[tuple[str, float | None, str]]) -> None:
        """Append scores as a unit; for these samples they supersede older ones, of whichever scorer.

        Args:
            unit: Name of the unit.
            scorer: Name of the scorer.
            version: Its version.
            rows: (sample id, score, status) each.
        """
        self._append(unit, "scores", parts.score_table(scorer, version, rows, ordinal=self._manifest.ordinal))

    def _append(self, unit: str, table: str, rows: Any) -> None:
        written = parts.write(self.folder, unit, {table: rows})
        self.adopt(parts.described(self.folder, unit, written, rows=rows.num_rows, tokens=0, seconds={}))

    def compact(self) -> None:
        """Merge small parts, if there are many. The replaced files are removed by the next call or the next writer."""
        with self._lock:
            self._remove_unnamed()
            compaction.compact(self._manifest)

    def fork(self, folder: Path, *, keeps_unit: Callable[[str], bool], keeps_row: Callable[[int, str], bool]) -> None:
        """Write a ledger with some of the units into an empty folder, with hard links to the parts where possible.

        Args:
            folder: The folder of the new ledger.
            keeps_unit: Whether a unit is taken, by its name.
            keeps_row: The same by the round and split of a sample, for parts that were merged of several units.
        """
        with self._lock:
            _fork(self._manifest, folder, keeps_unit=keeps_unit, keeps_row=keeps_row)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the views of docs/ledger.md: traces, samples, verdicts, problems and more.

        They show what counts now: later commits are not in them.
        """
        with self._lock:
            return views.connect(self.run_dir, self._manifest)


def _fork(
    source: Manifest, folder: Path, *, keeps_unit: Callable[[str], bool], keeps_row: Callable[[int, str], bool]
) -> None:
    # `follows`: later verdicts of the fork must get larger ordinals than those that it has from its source.
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
        else:  # a merged group of which some units are taken
            changed = _filtered(source.folder, folder, group, keeps_row)
        if "compacted" in group:
            lines += [source.units[unit] for unit in kept]
            lines.append({**group, "of": kept, "units": kept, **changed})
        else:
            lines.append(group)
    write_text(folder / "manifest", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def link(file: Path, target: Path) -> None:
    """Hard-link a file; where that is not possible, as to another disk, copy it with its modification time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        with whole(target) as temporary:
            shutil.copy2(file, temporary)


def _filtered(source: Path, folder: Path, group: Line, keeps_row: Callable[[int, str], bool]) -> Line:
    """Write the rows of a group that are taken, one row group in memory at a time; return what changes in its line."""
    samples, verdicts = (group["parts"][table] for table in ("samples", "verdicts"))
    ids: list[pa.Array] = []

    def of_samples(rows: pa.Table) -> pa.Table:
        pairs = zip(rows["round"].to_pylist(), rows["split"].to_pylist(), strict=True)
        kept = rows.filter(pa.array([keeps_row(*pair) for pair in pairs], pa.bool_()))
        ids.extend(kept["sample_id"].chunks)  # for the verdicts, which have no round and split
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
