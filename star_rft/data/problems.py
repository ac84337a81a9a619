"""Reading and writing of `problems.parquet`, and the check that a verifier can read the references."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import verifiers
from star_rft.data.readers import DataError
from star_rft.types import Problem, Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# More references that cannot be read are a wrong verifier or column; fewer are faults of the data.
BAD_SHARE_LIMIT = 0.1
_SHOWN = 3

log = logging.getLogger("star_rft")


def write_problems(path: Path, problems_by_split: Mapping[Split, Iterable[Problem]]) -> None:
    """Write the problems of all splits into one file, whole or not at all; `reference` and `meta` become JSON text."""
    import pyarrow as pa

    from star_rft.files import write_table
    from star_rft.ledger.schemas import PROBLEMS

    rows = [
        (split, p.id, p.prompt, _json(p.reference), p.verifier, p.solution, _json(dict(p.meta)))
        for split, problems in problems_by_split.items()
        for p in problems
    ]
    named = [dict(zip(PROBLEMS.names, row, strict=True)) for row in rows]
    write_table(path, pa.Table.from_pylist(named, schema=PROBLEMS))


def read_problems(path: Path) -> dict[Split, list[Problem]]:
    """Return the problems of all three splits in the order written; DataError for a file of other columns."""
    import pyarrow.parquet as pq

    from star_rft.ledger.schemas import PROBLEMS

    table = pq.read_table(path)
    if table.column_names != PROBLEMS.names:
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


def check_references(problems: Sequence[Problem], check: verifiers.Check) -> None:
    """Warn of references that the verifier cannot read; DataError where they are more than `BAD_SHARE_LIMIT` of all."""
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
