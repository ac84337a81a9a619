"""Selection: applies a list of rules to the candidates of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.selection.candidates import as_selection, candidates
from star_rft.selection.registry import bound
from star_rft.selection.rules import KEYS, dedup

if TYPE_CHECKING:
    import duckdb


def dedup_key(rules: Sequence[str | Mapping[str, Any]]) -> str:
    """Return the column whose values no two selected traces of a problem share: that of the last rule `dedup`.

    Without such a rule it is `sample_id`.
    """
    keys = [KEYS[call.keywords["by"]] for call in bound(rules) if call.func is dedup]
    return keys[-1] if keys else "sample_id"


@dataclass(frozen=True, slots=True)
class SelectionSpec:
    """How a round selects.

    Attributes:
        rules: Rules as in a config, applied left to right.
        rounds: Rounds whose traces may be selected, `all` so far or only the `last`.
        weighting: Weights of the selected traces: `uniform`, `per_problem` or `score` (`candidates.as_selection`).
        seed: Of the rules that draw at random.
        scorer_decides: The scorer's verdict counts in place of the verifier's.
        has_quarantine: Problems with a suspected label error are left out before the rules.
    """

    rules: Sequence[str | Mapping[str, Any]]
    rounds: str = "all"
    weighting: str = "uniform"
    seed: int = 0
    scorer_decides: bool = False
    has_quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What a round trains on: `traces` with the columns SELECTION, and ranked lists `preferences` (PREFERENCES)."""

    traces: duckdb.DuckDBPyRelation
    preferences: duckdb.DuckDBPyRelation


def select(con: duckdb.DuckDBPyConnection, spec: SelectionSpec, *, round_index: int) -> Selection:
    """Select from the train traces of a round, and of those before it where `spec.rounds` is `all`.

    Args:
        con: A connection of `Ledger.connect`, with the class of each problem in `frontier` if there is a quarantine.
        spec: What is selected.
        round_index: The round that trains.

    Returns:
        Two relations of `con`, valid until the next call with it.

    Raises:
        RuleError: A rule does not exist, or has a wrong option.
    """
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
