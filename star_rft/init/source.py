"""The data source of a new run, and its problems under the inferred columns."""

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
# What a hub data set may call the split that decisions are made on.
DEV_SPLITS = ("validation", "dev", "valid")


@dataclass(frozen=True, slots=True)
class DataSource:
    """One split of a data set, as a config names it. `split` is None for files, which have none."""

    name: str
    split: str | None = None
    config_name: str | None = None

    @property
    def is_generated(self) -> bool:
        return self.name in GENERATED

    @property
    def is_on_hub(self) -> bool:
        return not self.is_generated and not _is_on_disk(self.name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; raise DataError for what cannot be read. A generator's problems are not looked at."""
        if not self.is_on_hub:
            return read_files(self.name, self.split)
        alias = ALIASES.get(self.name)
        if alias is None:
            return read_hub(self.name, self.config_name, self.split)
        return read_hub(alias.name, self.config_name or alias.config_name, self.split)

    def section(self, role: str) -> dict[str, Any]:
        """Return the keys that name it in a config; the split is the `role` (train, dev, test) unless it is named."""
        named: dict[str, Any] = {"source": self.name}
        if self.split is not None and self.split != role:
            named["split"] = self.split
        if self.config_name is not None:
            named["config_name"] = self.config_name
        return named


def find_source(name: str, *, split: str | None = None, config_name: str | None = None) -> DataSource:
    """Return the train split of what a user names; raise DataError with one clear line if there is no such thing."""
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
    """Return the splits dev and test that stand beside a train split, where there are any."""
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
    """A folder's file may have any name, if it is the only one."""
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


LOOKED_AT = 500
GENERATED_ROWS = {"train": 500, "dev": 200, "test": 200}
GROUPS_AT_MOST = 12
# The verifier has no part in reading; one must be named.
_ANY = "exact"


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """`rows` counts what was read; fewer `problems` than that are left where rows say the same."""

    problems: list[Problem]
    rows: int

    @property
    def duplicates(self) -> int:
        return self.rows - len(self.problems)

    @property
    def contradictions(self) -> int:
        """How many problems share their question with another that has another answer."""
        return len(self.problems) - len({problem.prompt for problem in self.problems})


def first_rows(source: DataSource) -> list[Row]:
    """Return the rows that a proposal is made from; raise DataError if there are none."""
    rows = list(itertools.islice(source.rows(), LOOKED_AT))
    if not rows:
        raise DataError(f"{source.name}: there are no rows in it")
    return rows


def load_problems(source: DataSource, meaning: ColumnRoles) -> LoadedProblems:
    """Read every row; raise DataError that says how many cannot be used, and where the first one stands."""
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
    problems = load(source.name, verifier=_ANY, split=source.split, limit=GENERATED_ROWS[role])
    return LoadedProblems(problems, len(problems))


def converted(source: DataSource, meaning: ColumnRoles) -> str:
    """Return the rows that a conversion makes, as JSON lines."""
    lines = (json.dumps(meaning.row(row.values), ensure_ascii=False) for row in source.rows())
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def grouping(problems: Sequence[Problem]) -> str | None:
    """Return a column of the data that every problem has and that makes a few groups of them."""
    for name in META_COLUMNS:
        values = {str(problem.meta.get(name)) for problem in problems if name in problem.meta}
        if all(name in problem.meta for problem in problems) and 2 <= len(values) <= GROUPS_AT_MOST:
            return name
    return None


def _diagnose(source: DataSource, meaning: ColumnRoles) -> None:
    """Raise the error of the first bad row with the number of such rows; return if the rows alone are not at fault."""
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
    """Keep the warnings of loading to the caller, who counts what they are about and says it once."""
    logger, handler = logging.getLogger("star_rft"), logging.NullHandler()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
