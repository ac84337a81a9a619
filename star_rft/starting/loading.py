"""The problems of a data set as its columns were understood, with one clear line for what stands in the way."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from star_rft.data import DataError, load
from star_rft.data.load import META_COLUMNS
from star_rft.data.readers import Row
from star_rft.starting.meaning import Meaning
from star_rft.starting.source import DataSource
from star_rft.types import Problem

LOOKED_AT = 500
GENERATED = {"train": 500, "dev": 200, "test": 200}
GROUPS_AT_MOST = 12
# The verifier has no part in reading; one must be named.
_ANY = "exact"


@dataclass(frozen=True, slots=True)
class Loaded:
    """`rows` counts what was read; fewer `problems` than that are left where rows say the same."""

    problems: list[Problem]
    rows: int

    @property
    def duplicates(self) -> int:
        return self.rows - len(self.problems)

    @property
    def contradictions(self) -> int:
        """How many problems share their prompt with another that has another answer."""
        return len(self.problems) - len({problem.prompt for problem in self.problems})


def first_rows(source: DataSource) -> list[Row]:
    """Return the rows that a proposal is made from; raise DataError if there are none."""
    rows = list(itertools.islice(source.rows(), LOOKED_AT))
    if not rows:
        raise DataError(f"{source.name}: there are no rows in it")
    return rows


def load_problems(source: DataSource, meaning: Meaning) -> Loaded:
    """Read every row; raise DataError that says how many cannot be used, and where the first one stands."""
    counted = itertools.count()
    with quiet():
        try:
            values = (meaning.row(row.values) for row in source.rows() if next(counted) >= 0)
            problems = load(values, verifier=_ANY, **meaning.reading())
        except DataError:
            _diagnose(source, meaning)
            raise
    return Loaded(problems, next(counted))


def load_generated(source: DataSource, role: str) -> Loaded:
    problems = load(source.name, verifier=_ANY, split=source.split, limit=GENERATED[role])
    return Loaded(problems, len(problems))


def converted(source: DataSource, meaning: Meaning) -> str:
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


def _diagnose(source: DataSource, meaning: Meaning) -> None:
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


def _fault(values: Mapping[str, Any], meaning: Meaning) -> str | None:
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
