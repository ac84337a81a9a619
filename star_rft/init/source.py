"""The data source of a new run, and its problems as the proposed columns read them."""

from __future__ import annotations

import glob
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star_rft.data import load
from star_rft.data.load import ALIASES, GENERATED, META_COLUMNS
from star_rft.data.readers import (
    COMPRESSIONS,
    FORMATS,
    HUB_NAME,
    DataError,
    Row,
    find_files,
    read_files,
    read_hub,
)
from star_rft.init.infer import ColumnRoles
from star_rft.types import Problem

CSV_HINT = (
    '{path}: tables of this kind are not read; this makes JSON lines of it: python -c "import pandas as p; '
    "p.read_csv('{path}', sep=None, engine='python').to_json('{stem}.jsonl', orient='records', lines=True)\""
)
# Names of the development split in hub data sets, in the order in which they are tried.
DEV_SPLITS = ("validation", "dev", "valid")


@dataclass(frozen=True, slots=True)
class DataSource:
    """One split of a data set, by the keys of a config; `split` is None for a file."""

    name: str
    split: str | None = None
    config_name: str | None = None

    @property
    def is_generated(self) -> bool:
        """Return whether the problems come from a generator of this package."""
        return self.name in GENERATED

    @property
    def is_on_hub(self) -> bool:
        """Return whether it is a data set of the Hugging Face hub."""
        return not self.is_generated and not _is_on_disk(self.name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of a file, folder or hub data set; DataError where they cannot be read."""
        if not self.is_on_hub:
            return read_files(self.name, self.split)
        alias = ALIASES.get(self.name)
        if alias is None:
            return read_hub(self.name, self.config_name, self.split)
        return read_hub(alias.name, self.config_name or alias.config_name, self.split)

    def section(self, role: str) -> dict[str, Any]:
        """Return its keys in the section `data.ROLE` of a config, where the split defaults to the role."""
        named: dict[str, Any] = {"source": self.name}
        if self.split is not None and self.split != role:
            named["split"] = self.split
        if self.config_name is not None:
            named["config_name"] = self.config_name
        return named


def find_source(name: str, *, split: str | None = None, config_name: str | None = None) -> DataSource:
    """Return the data source that a user names, by default its train split; DataError where there is none."""
    if name in GENERATED:
        return DataSource(name, split or "train")
    if not _is_on_disk(name):
        if name not in ALIASES and not HUB_NAME.fullmatch(name):
            known = ", ".join([*GENERATED, *ALIASES])
            raise DataError(f"{name}: no such file or folder, no hub name (owner/name), and none of {known}")
        return DataSource(name, split or "train", config_name)
    path = Path(name).expanduser()
    if path.suffix in (".csv", ".tsv"):
        raise DataError(CSV_HINT.format(path=name, stem=Path(name).with_suffix("")))
    if not path.is_dir():
        find_files(name, split)
        return DataSource(name, split)
    return _in_folder(name, split)


def held_out_in(source: DataSource) -> dict[str, DataSource]:
    """Return the dev and test splits of the data set of a train split, as far as there are any."""
    if source.is_generated:
        return {role: replace(source, split=role) for role in ("dev", "test")}
    if source.split != "train":
        return {}
    if source.is_on_hub:
        dev = next((split for split in DEV_SPLITS if _has_rows(replace(source, split=split))), None)
        found = {"dev": dev, "test": "test" if _has_rows(replace(source, split="test")) else None}
        return {role: replace(source, split=split) for role, split in found.items() if split is not None}
    return {role: replace(source, split=role) for role in ("dev", "test") if _has_rows(replace(source, split=role))}


def _in_folder(name: str, split: str | None) -> DataSource:
    """Return a split of a folder, or its file if it has only one, whatever its name."""
    if split is None:
        try:
            find_files(name, "train")
        except DataError:
            (only,) = find_files(name, None)  # or an error that lists the files
            return DataSource(str(only))
    find_files(name, split or "train")
    return DataSource(name, split or "train")


def _has_rows(source: DataSource) -> bool:
    try:
        return next(source.rows(), None) is not None
    except DataError:
        return False


def _is_on_disk(name: str) -> bool:
    looks_like_it = name.startswith((".", "/", "~")) or name.endswith((*FORMATS, *COMPRESSIONS, ".csv", ".tsv"))
    return looks_like_it or glob.has_magic(name) or Path(name).exists()


LOOKED_AT = 500  # first rows from which columns are proposed
GENERATED_ROWS = {"train": 500, "dev": 200, "test": 200}
GROUPS_AT_MOST = 12  # values of a column by which results are grouped
# `load` needs the name of a verifier, which is not known yet and does not change what is read.
_ANY = "exact"


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The problems of a source, and how many rows were read, duplicates included."""

    problems: list[Problem]
    rows: int

    @property
    def duplicates(self) -> int:
        """Return how many rows had the prompt and reference of another."""
        return self.rows - len(self.problems)

    @property
    def contradictions(self) -> int:
        """Return how many problems have the question of another problem and a different answer."""
        return len(self.problems) - len({problem.prompt for problem in self.problems})


def first_rows(source: DataSource) -> list[Row]:
    """Return the first rows, from which columns are proposed; DataError where there are none."""
    rows = list(itertools.islice(source.rows(), LOOKED_AT))
    if not rows:
        raise DataError(f"{source.name}: there are no rows in it")
    return rows


def load_problems(source: DataSource, meaning: ColumnRoles) -> LoadedProblems:
    """Load the problems of every row.

    Raises:
        DataError: Some rows cannot be used; the text says how many, and where the first one is.
    """
    counted = itertools.count()
    with quiet():
        try:
            values = (meaning.row(row.values) for row in source.rows() if next(counted) >= 0)
            problems = load(values, verifier=_ANY, **meaning.reading())
        except DataError:
            _diagnose(source, meaning)
            raise
    return LoadedProblems(problems, next(counted))


def load_generated(source: DataSource, role: str) -> LoadedProblems:
    """Generate the problems of a split; `role` (train, dev, test) says how many."""
    problems = load(source.name, verifier=_ANY, split=source.split, limit=GENERATED_ROWS[role])
    return LoadedProblems(problems, len(problems))


def converted(source: DataSource, meaning: ColumnRoles) -> str:
    """Return the rows of a source after the conversion, as JSON lines without duplicates."""
    lines = (json.dumps(meaning.row(row.values), ensure_ascii=False) for row in source.rows())
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def grouping(problems: Sequence[Problem]) -> str | None:
    """Return a column of `META_COLUMNS` that every problem has, with 2 to `GROUPS_AT_MOST` values; None without one."""
    for name in META_COLUMNS:
        values = {str(problem.meta.get(name)) for problem in problems if name in problem.meta}
        if all(name in problem.meta for problem in problems) and 2 <= len(values) <= GROUPS_AT_MOST:
            return name
    return None


def _diagnose(source: DataSource, meaning: ColumnRoles) -> None:
    """Raise DataError for the first row that cannot be used, with the number of such rows; return if there is none."""
    faults = [(row.where, _fault(row.values, meaning)) for row in source.rows()]
    bad, rows = [(where, said) for where, said in faults if said is not None], len(faults)
    if not bad:
        return
    where, said = bad[0]
    if len(bad) == rows and said == "the reference is empty":
        column = next(choice.column for choice in meaning.choices if choice.field == "reference")
        raise DataError(
            f"{source.name}: the reference is empty in all {rows:,} rows (column {column!r}), so nothing can be "
            "checked; name another column with --column reference=COLUMN"
        )
    if len(bad) == 1:
        raise DataError(f"{where}: {said}; mend or remove this row")
    raise DataError(f"{where}: {said}; so {len(bad):,} of {rows:,} rows cannot be used: mend or remove them")


def _fault(values: Mapping[str, Any], meaning: ColumnRoles) -> str | None:
    try:
        load([meaning.row(values)], verifier=_ANY, **meaning.reading())
    except DataError as error:
        return str(error).removeprefix("row[0]: ")
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of loading: `LoadedProblems` has their figures."""
    logger, handler = logging.getLogger("star_rft"), logging.NullHandler()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
