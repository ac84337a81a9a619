"""Reading and writing of `problems.parquet`, and the check that a verifier can read every reference."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import verifiers
from star_rft.data.readers import DataError
from star_rft.types import Problem, Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
COLUMNS = ("split", "id", "prompt", "reference", "verifier", "solution", "meta")


def write_problems(path: Path, problems_by_split: Mapping[Split, Iterable[Problem]]) -> None:
    """Write every split into one file, whole or not at all; `reference` and `meta` are JSON text."""
    import pyarrow as pa

    from star_rft.files import write_table

    rows = [
        (split, p.id, p.prompt, _json(p.reference), p.verifier, p.solution, _json(dict(p.meta)))
        for split, problems in problems_by_split.items()
        for p in problems
    ]
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    table = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=schema)
    write_table(path, table)


def read_problems(path: Path) -> dict[Split, list[Problem]]:
    """Return all three splits, in the order written; a split that was not written is empty."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    if tuple(table.column_names) != COLUMNS:
        raise DataError(f"{path}: not a file of problems: its columns are {', '.join(table.column_names)}")
    problems: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
    for row in table.to_pylist():
        split = row.pop("split")
        problems[split].append(
            Problem(**row | {"reference": json.loads(row["reference"]), "meta": json.loads(row["meta"])})
        )
    return problems


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


log = logging.getLogger("star_rft")

# A few bad references are the data's, and their problems stay unknown. More are a wrong verifier or column.
BAD_SHARE_LIMIT = 0.1
_SHOWN = 3


def check_references(problems: Sequence[Problem], check: verifiers.Check) -> None:
    """Warn of references that the verifier cannot read; raise DataError where they are many."""
    if check.reference_problem is None:
        return
    found = [(problem, text) for problem in problems if (text := check.reference_problem(problem.reference))]
    if not found:
        return
    shown = "; ".join(f"problem {problem.id}: {text}" for problem, text in found[:_SHOWN])
    text = f"{len(found)} of {len(problems)} references are nothing that verifier {check.name!r} can read ({shown})"
    if len(found) > BAD_SHARE_LIMIT * len(problems):
        raise DataError(
            f"{text}. Set verifier.name to one that does (code for programs, choice for multiple choice, exact for "
            f"text), or the columns of the data"
        )
    log.warning("%s. Every verdict on these problems will be unknown", text)
