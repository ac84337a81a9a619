"""One selection: the rules of a config applied to the candidates of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.selection.candidates import as_selection, candidates
from star_rft.selection.registry import bound
from star_rft.selection.rules import KEYS, dedup

if TYPE_CHECKING:
    import duckdb


def check(rules: Sequence[str | Mapping[str, Any]]) -> None:
    """Raise RuleError for a list that cannot be applied, before there is anything to apply it to."""
    bound(rules)


def dedup_key(rules: Sequence[str | Mapping[str, Any]]) -> str:
    """Return the column by which a list of rules tells traces apart in the end; without dedup each is its own."""
    keys = [KEYS[call.keywords["by"]] for call in bound(rules) if call.func is dedup]
    return keys[-1] if keys else "sample_id"


@dataclass(frozen=True, slots=True)
class Selection:
    """`traces` as `candidates.as_selection` describes them; `preferences` its lists, best place first."""

    traces: duckdb.DuckDBPyRelation
    preferences: duckdb.DuckDBPyRelation


def select(
    con: duckdb.DuckDBPyConnection,
    *,
    round_index: int,
    rounds: str,
    rules: Sequence[str | Mapping[str, Any]],
    weighting: str,
    seed: int,
    scorer_decides: bool = False,
    quarantines: bool = False,
) -> Selection:
    """Apply the rules of one round, left to right; label errors are left out before them."""
    calls = bound(rules)
    pool = candidates(con, round_index=round_index, rounds=rounds, seed=seed, scorer_decides=scorer_decides)
    if quarantines:
        of_class = f"select problem_id from frontier where in_round = {int(round_index)} and class = 'label_error'"
        pool.drop(f"problem_id in ({of_class})", "'quarantined'")
    for call in calls:
        call(pool)
    traces = as_selection(pool, weighting=weighting)
    return Selection(
        traces, con.sql(f"select {int(round_index)}::integer as in_round, * from ranked order by preference, place")
    )
