"""Applies the rules of a config to the candidates of a round."""

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
class SelectionSpec:
    """How a round selects.

    `rules` are applied left to right. `rounds` says whose traces may be selected, `all` or `last`; `weighting` is
    `uniform`, `per_problem` or `score`. `scorer_decides`: the scorer's verdict counts in place of the verifier's.
    `has_quarantine`: suspected label errors are left out before the rules.
    """

    rules: Sequence[str | Mapping[str, Any]]
    rounds: str = "all"
    weighting: str = "uniform"
    seed: int = 0
    scorer_decides: bool = False
    has_quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """`traces` as `candidates.as_selection` describes them; `preferences` its lists, best place first."""

    traces: duckdb.DuckDBPyRelation
    preferences: duckdb.DuckDBPyRelation


def select(con: duckdb.DuckDBPyConnection, spec: SelectionSpec, *, round_index: int) -> Selection:
    """Select from the traces of a round, and of those before it where the spec says so."""
    calls = bound(spec.rules)
    pool = candidates(
        con, round_index=round_index, rounds=spec.rounds, seed=spec.seed, scorer_decides=spec.scorer_decides
    )
    if spec.has_quarantine:
        of_class = f"select problem_id from frontier where in_round = {int(round_index)} and class = 'label_error'"
        pool.drop(f"problem_id in ({of_class})", "'quarantined'")
    for call in calls:
        call(pool)
    traces = as_selection(pool, weighting=spec.weighting)
    return Selection(
        traces, con.sql(f"select {int(round_index)}::integer as in_round, * from ranked order by preference, place")
    )
