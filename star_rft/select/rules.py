"""Selection as queries: each rule marks the traces it drops, left to right, and says why.

The working table `pool` has one row a candidate trace; `why` is null while the trace is still in. DuckDB does
the work in columns, so that a million traces never become Python objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

KEY_COLUMNS = {"exact": "text_key", "equations": "equation_key"}

# How to choose among equals; the ends make every order total, so that selection does not depend on row order.
PREFERENCES = {
    "first": "round, attempt, sample_id",
    "shortest": "tokens, round, attempt, sample_id",
    "most_likely": "logprob / greatest(tokens, 1) desc, round, attempt, sample_id",
}


def candidates(con: duckdb.DuckDBPyConnection, *, up_to_round: int, rounds: str) -> None:
    """Fill `pool` with the train traces of this round, or of all rounds so far."""
    span = f"round = {int(up_to_round)}" if rounds == "last" else f"round between 1 and {int(up_to_round)}"
    con.execute(
        "create or replace temp table pool as"
        " select sample_id, problem_id, round, attempt, status, reason, finish_reason, text_key, equation_key,"
        " tokens, logprob, null::varchar as why, null::varchar as duplicate_of"
        f" from traces where split = 'train' and not hinted and {span}"
    )


def correct_only(con: duckdb.DuckDBPyConnection) -> None:
    """Keep what a verifier found correct and what ended by itself: a cut-off trace would not teach to stop."""
    con.execute(
        "update pool set why = case when status <> 'correct' then status else 'truncated' end"
        " where why is null and (status <> 'correct' or finish_reason <> 'stop')"
    )


def dedup(con: duckdb.DuckDBPyConnection, *, key: str, prefer: str) -> None:
    """Keep one trace a problem and key; the others name the one that was kept."""
    column, order = KEY_COLUMNS[key], PREFERENCES[prefer]
    con.execute(
        "create or replace temp table pool as select * exclude (kept)"
        " from (select * replace ("
        "   case when why is null and kept <> sample_id then 'duplicate' else why end as why,"
        "   case when why is null and kept <> sample_id then kept else duplicate_of end as duplicate_of)"
        f" from (select *, first_value(sample_id) over (partition by problem_id, {column}, why is null"
        f" order by {order}) as kept from pool))"
    )


def cap(con: duckdb.DuckDBPyConnection, *, limit: int, prefer: str) -> None:
    """Keep at most `limit` traces a problem, so that easy problems do not drown the rest."""
    con.execute(
        "create or replace temp table pool as select * exclude (place)"
        " replace (case when why is null and place > " + str(int(limit)) + " then 'over_cap' else why end as why)"
        " from (select *, row_number() over (partition by problem_id, why is null"
        f" order by {PREFERENCES[prefer]}) as place from pool)"
    )


def finish(con: duckdb.DuckDBPyConnection, *, round: int, weighting: str) -> duckdb.DuckDBPyRelation:
    """Return the selection: every candidate with its reason and weight, in a fixed order.

    Weight 1/|Y+| (`per_prompt`) is the policy gradient's view of RFT: each problem counts once, however many
    traces of it survived.
    """
    weight = "1.0 / count(*) over (partition by problem_id, why is null)" if weighting == "per_prompt" else "1.0"
    return con.sql(
        f"select {int(round)}::integer as in_round, sample_id, problem_id, why is null as is_selected,"
        " coalesce(why, 'selected') as why, duplicate_of,"
        f" case when why is null then {weight} else 0.0 end as weight"
        " from pool order by problem_id, sample_id"
    )


def select(
    con: duckdb.DuckDBPyConnection,
    *,
    round: int,
    rounds: str,
    dedup_keys: list[str],
    keep_at_most: int | None,
    prefer: str,
    weighting: str,
) -> duckdb.DuckDBPyRelation:
    """Apply the rules of one round and return its selection, as `finish` describes it."""
    candidates(con, up_to_round=round, rounds=rounds)
    correct_only(con)
    for key in dedup_keys:
        dedup(con, key=key, prefer=prefer)
    if keep_at_most is not None:
        cap(con, limit=keep_at_most, prefer=prefer)
    return finish(con, round=round, weighting=weighting)
