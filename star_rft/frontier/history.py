"""What each prompt has come to, round by round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from star_rft.statistics import upper_bound

if TYPE_CHECKING:
    import duckdb


def history(con: duckdb.DuckDBPyConnection, *, only_without_survivors: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one row a train problem: its figures over all rounds and, in `rounds`, round by round, hints aside.

    `pass_rate_at_most` is the one-sided 95% upper bound; after 0 of k it is near 3/k.
    """
    having = "having sum(correct) = 0" if only_without_survivors else ""
    rows = con.sql(
        "with r as (select problem_id, round, count(*)::int as samples,"
        "  count(*) filter (status = 'correct')::int as correct,"
        "  count(*) filter (status = 'unknown')::int as unknown,"
        "  count(*) filter (reason = 'truncated')::int as truncated,"
        "  count(distinct equation_key) filter (status = 'correct')::int as distinct_correct"
        "  from traces where split = 'train' and not hinted group by all)"
        " select problem_id, sum(samples)::int as samples, sum(correct)::int as correct,"
        " sum(unknown)::int as unknown, sum(truncated)::int as truncated,"
        " list({round: round, samples: samples, correct: correct, unknown: unknown,"
        " distinct_correct: distinct_correct} order by round) as rounds,"
        " any_value(p.prompt) as prompt, any_value(p.reference) as reference"
        " from r left join (select * from problems where split = 'train') p using (problem_id)"
        f" group by problem_id {having} order by sum(correct) / sum(samples), problem_id"
    )
    for batch in rows.to_arrow_reader(8192):
        for row in batch.to_pylist():
            yield {**row, "pass_rate_at_most": upper_bound(row["correct"], row["samples"])}
