"""The candidate table in DuckDB: the traces that a round may train on, and why each was dropped.

The table `pool` has one row a trace; `why` is null as long as the trace is selected. Rules work on columns in DuckDB,
so that a million traces never become Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from star_rft.errors import UserError

if TYPE_CHECKING:
    import duckdb

# Orders by which rules prefer one trace to another. All end in `sample_id`, so that no two traces are equal in them and
# selection does not depend on the order of rows.
ORDERS = {
    "first": "round, sample_index, sample_id",
    "shortest": "tokens, round, sample_index, sample_id",
    "most_likely": "logprob / greatest(tokens, 1) desc, round, sample_index, sample_id",
    "best": "score desc nulls last, round, sample_index, sample_id",
}


class RuleError(UserError):
    """A selection rule that does not exist, or a wrong option of one; the text names what is valid."""


@dataclass(slots=True)
class CandidateTable:
    """The table `pool` of one selection, for rules: SQL in, no rows out.

    Attributes:
        con: The connection that holds it, and the views of `Ledger.connect`.
        round: The round that trains.
        seed: Of rules that draw at random.
    """

    con: duckdb.DuckDBPyConnection
    round: int
    seed: int

    def drop(self, condition: str, why: str, **windows: str) -> None:
        """Drop the selected traces that meet a condition.

        Args:
            condition: SQL over the columns of `pool` and the names of `windows`.
            why: SQL for the reason that is recorded, such as "'too_long'".
            windows: SQL over the whole table, such as window functions, by the name that the condition uses.
        """
        self.change(f"why is null and ({condition})", {"why": why}, windows)

    def keep_first(self, limit: int | str, *, order: str, why: str, group: str = "problem_id", **windows: str) -> None:
        """Keep the first traces of each group and drop the others.

        Args:
            limit: How many, or SQL for it over `windows`.
            order: SQL of an order, such as one of `ORDERS`.
            why: SQL for the reason that is recorded.
            group: SQL by which traces are grouped.
            windows: As in `drop`.
        """
        place = f"row_number() over (partition by {group}, why is null order by {order})"
        self.drop(f"place > {limit}", why, place=place, **windows)

    def mark_duplicates(self, column: str, order: str) -> None:
        """Keep the first trace of each problem and value of `column`; the others get its id as `duplicate_of`."""
        self.change(
            "why is null and kept <> sample_id",
            {"why": "'duplicate'", "duplicate_of": "kept"},
            {"kept": f"first_value(sample_id) over (partition by problem_id, {column}, why is null order by {order})"},
        )

    def set_why(self, changes: pa.Table) -> None:
        """Set `why` and `duplicate_of` of traces, from a table of these and `sample_id`; nulls change nothing."""
        self.con.register("changes", changes)
        self.con.execute(
            "update pool set why = coalesce(changes.why, pool.why),"
            " duplicate_of = coalesce(changes.duplicate_of, pool.duplicate_of)"
            " from changes where pool.sample_id = changes.sample_id"
        )
        self.con.unregister("changes")

    def by_problem(self, query: str) -> Iterator[list[dict[str, Any]]]:
        """Run a query that is ordered by problem_id, and yield a list of the rows of each problem."""
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
        """Return the number of traces that are still selected."""
        ((count,),) = self.con.execute("select count(*) from pool where why is null").fetchall()
        return int(count)

    def random_order(self, label: str) -> str:
        """Return SQL of a random order, which depends on seed, round, label and the traces' ids only."""
        return f"md5(sample_id || '{self.seed}:{self.round}:{label}')"

    def change(self, condition: str, values: Mapping[str, str], windows: Mapping[str, str] | None = None) -> None:
        """Set columns of the traces that meet a condition.

        Args:
            condition: SQL, as in `drop`.
            values: SQL of the new value, by column.
            windows: As in `drop`.
        """
        # The changed rows are found first, with the few columns that this needs: an update with windows over the whole
        # table would copy all its columns.
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
    """Fill `pool` with the train traces of a round, or of all rounds up to it.

    A trace's score is the scorer's where there is one, else the verifier's.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round that trains.
        rounds: `last`: only its traces. `all`: those of all rounds so far.
        seed: Of rules that draw at random.
        scorer_decides: The status is the scorer's too; a trace without one is unknown.
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
    """Return the table SELECTION: every candidate with its reason and weight, ordered by problem and sample id.

    Args:
        pool: The candidates, after all rules.
        weighting: `uniform`: 1. `per_problem`: 1 / (selected traces of the problem), so that every problem has the same
            weight, as in the policy gradient that RFT approximates. `score`: the trace's score; traces whose score is
            not above 0 are dropped.
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
