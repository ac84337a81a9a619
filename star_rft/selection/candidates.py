"""The candidate table in DuckDB: the traces that a round may train on, and why each is dropped.

The table `pool` has one row a trace; `why` is null while the trace is still in. DuckDB does the work in columns, so
that a million traces never become Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_rft.errors import UserError

if TYPE_CHECKING:
    import duckdb

# How to choose among equals; the ends make every order total, so that selection does not depend on row order.
ORDERS = {
    "first": "round, sample_index, sample_id",
    "shortest": "tokens, round, sample_index, sample_id",
    "most_likely": "logprob / greatest(tokens, 1) desc, round, sample_index, sample_id",
    "best": "score desc nulls last, round, sample_index, sample_id",
}


class RuleError(UserError):
    """A selection rule that does not exist or is not meant so; the text names what is valid."""


@dataclass(slots=True)
class CandidateTable:
    """The working table of one selection, with what the rules need to know about it."""

    con: duckdb.DuckDBPyConnection
    round: int
    seed: int

    def drop(self, condition: str, why: str, **windows: str) -> None:
        """Drop the traces that are still in and meet an SQL condition; `why` is an SQL expression of text.

        `windows` are expressions over the whole table, by the name under which the condition uses them.
        """
        self.change(f"why is null and ({condition})", {"why": why}, windows)

    def keep_first(self, limit: int | str, *, order: str, why: str, group: str = "problem_id", **windows: str) -> None:
        """Keep the first `limit` traces of each group in an order; drop the others. A limit may be SQL over windows."""
        place = f"row_number() over (partition by {group}, why is null order by {order})"
        self.drop(f"place > {limit}", why, place=place, **windows)

    def mark_duplicates(self, column: str, order: str) -> None:
        """Keep one trace a problem and key; the others name the one that was kept."""
        self.change(
            "why is null and kept <> sample_id",
            {"why": "'duplicate'", "duplicate_of": "kept"},
            {"kept": f"first_value(sample_id) over (partition by problem_id, {column}, why is null order by {order})"},
        )

    def set_why(self, changes: pa.Table) -> None:
        """Take (sample_id, why, duplicate_of) of some traces from a table."""
        self.con.register("changes", changes)
        self.con.execute(
            "update pool set why = coalesce(changes.why, pool.why),"
            " duplicate_of = coalesce(changes.duplicate_of, pool.duplicate_of)"
            " from changes where pool.sample_id = changes.sample_id"
        )
        self.con.unregister("changes")

    def by_problem(self, query: str) -> Iterator[list[dict[str, Any]]]:
        """Run a query that is ordered by problem_id and yield the rows of one problem after the other."""
        rows: list[dict[str, Any]] = []
        for batch in self.con.sql(query).to_arrow_reader(8192):
            for row in batch.to_pylist():
                if rows and rows[0]["problem_id"] != row["problem_id"]:
                    yield rows
                    rows = []
                rows.append(row)
        if rows:
            yield rows

    def count(self) -> int:
        """Return how many traces are still in."""
        ((count,),) = self.con.execute("select count(*) from pool where why is null").fetchall()
        return int(count)

    def random_order(self, label: str) -> str:
        """Return an order that depends on the seed, the round, the label and the trace alone."""
        return f"md5(sample_id || '{self.seed}:{self.round}:{label}')"

    def change(self, condition: str, values: Mapping[str, str], windows: Mapping[str, str] | None = None) -> None:
        """Give columns other values where a condition is met; `windows` are as in `drop`.

        The rows that change are found first, in the few columns that this takes: the table itself is wide.
        """
        added = "".join(f", {expression} as {name}" for name, expression in (windows or {}).items())
        chosen = ", ".join(f"{expression} as {name}" for name, expression in values.items())
        assigned = ", ".join(f"{name} = changed.{name}" for name in values)
        self.con.execute(
            f"create or replace temp table changed as select line, {chosen}"
            f" from (select rowid as line, *{added} from pool) where {condition}"
        )
        self.con.execute(f"update pool set {assigned} from changed where pool.rowid = changed.line")
        self.con.execute("drop table changed")


def candidates(
    con: duckdb.DuckDBPyConnection, *, round_index: int, rounds: str, seed: int, scorer_decides: bool = False
) -> CandidateTable:
    """Fill `pool` with the train traces of this round, or of all rounds so far.

    Where a scorer has scored a trace, that is its score; with `scorer_decides` its status too.
    """
    span = f"round = {int(round_index)}" if rounds == "last" else f"round between 1 and {int(round_index)}"
    status = "coalesce(x.status, 'unknown')" if scorer_decides else "t.status"
    con.execute(
        "create or replace temp table pool as"
        f" select t.sample_id, t.problem_id, t.round, t.sample_index, {status} as status, t.reason, t.finish_reason,"
        " coalesce(x.score, t.score) as score, t.tokens, t.logprob, t.hinted, t.leaks_hint, t.text_key, t.equation_key,"
        " t.program_key, t.invalid_steps, null::varchar as why, null::varchar as duplicate_of"
        f" from traces t left join scores x using (sample_id) where t.split = 'train' and {span}"
    )
    con.execute(
        "create or replace temp table ranked"
        " (preference bigint, problem_id varchar, place integer, sample_id varchar, score double)"
    )
    return CandidateTable(con, round_index, seed)


def as_selection(pool: CandidateTable, *, weighting: str) -> duckdb.DuckDBPyRelation:
    """Return the selection: every candidate with its reason and weight, in a fixed order.

    Weight 1/|Y+| (`per_problem`) is the policy gradient's view of RFT: each problem counts once, however many
    traces of it survived. `score` weighs a trace by its score, which must be above 0.
    """
    weights = {
        "uniform": "1.0",
        "per_problem": "1.0 / count(*) over (partition by problem_id, why is null)",
        "score": "score",
    }
    if weighting == "score":
        pool.drop("score is null or score <= 0", "'no_weight'")
    return pool.con.sql(
        f"select {int(pool.round)}::integer as in_round, sample_id, problem_id, why is null as is_selected,"
        " coalesce(why, 'selected') as why, duplicate_of,"
        f" (case when why is null then {weights[weighting]} else 0.0 end)::double as weight"
        " from pool order by problem_id, sample_id"
    )
