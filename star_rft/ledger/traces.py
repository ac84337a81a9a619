"""Traces of the ledger as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from star_rft.ledger.views import batches
from star_rft.types import Problem, Sample, Split, Trace
from verifiers.types import Verdict

if TYPE_CHECKING:
    import duckdb


def traces_of(
    con: duckdb.DuckDBPyConnection,
    problems: Mapping[str, Problem],
    *,
    split: Split,
    round_index: int | None = None,
) -> Iterator[Trace]:
    """Yield the traces of a split, problem by problem, a bounded number in memory.

    Args:
        con: A connection of `Ledger.connect`.
        problems: All problems of the split, by id.
        split: `train`, `dev`, `test` or `probe`.
        round_index: The round; None: all rounds.
    """
    where = "true" if round_index is None else f"round = {int(round_index)}"
    query = (
        f"select * from traces where split = '{split}' and {where} order by problem_id, round, sample_index, sample_id"
    )
    for rows in batches(con, query):
        yield from (trace_of(row, problems[row["problem_id"]]) for row in rows)


def trace_of(row: Mapping[str, Any], problem: Problem) -> Trace:
    """Return a row of the view `traces` as a record."""
    sample = {name: row[name] for name in Sample.__dataclass_fields__}
    verdict = Verdict(
        row["status"],
        row["score"],
        row["answer"],
        row["reason"],
        row["verifier"],
        row["version"],
        row["verify_seconds"],
    )
    return Trace(problem, Sample(**sample | {"token_ids": tuple(row["token_ids"])}), verdict)
