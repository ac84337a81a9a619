"""Held-out scores problem by problem, and differences between two models on the problems that both have.

A row is one of `eval.parquet`: a problem with the outcomes of its samples (`evaluate.EVAL`). Two models are paired by
problem id, never by position, and only in this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star_rft.statistics import falls_below, majority_at_k, paired, pass_at_k
from star_rft.types import Interval

Rows = Sequence[Mapping[str, Any]]
Scores = Mapping[str, float]  # a score a problem, by its id


def measures(rows: Rows, ks: Sequence[int]) -> list[str]:
    """Return the measures that rows have samples for: `pass@k` and `maj@k` for the given k, and `greedy`."""
    drawn = min(row["n"] for row in rows)
    possible = [k for k in sorted(set(ks)) if k <= drawn]
    has_greedy = all(row["greedy_correct"] is not None for row in rows)
    return [
        *(f"pass@{k}" for k in possible),
        *(f"maj@{k}" for k in possible if k > 1),
        *(["greedy"] if has_greedy else []),
    ]


def scores(rows: Rows, measure: str) -> dict[str, float]:
    """Return the score of each problem by a measure such as `pass@4`, `maj@4` or `greedy`, by problem id.

    `greedy` leaves out problems without a greedy sample.
    """
    kind, _, text = measure.partition("@")
    if kind == "greedy":
        return {r["problem_id"]: float(r["greedy_correct"]) for r in rows if r["greedy_correct"] is not None}
    k = int(text)
    if kind == "maj":
        return {r["problem_id"]: majority_at_k(r["answers"], r["is_correct"], k) for r in rows}
    return {r["problem_id"]: pass_at_k(r["correct"], r["n"], k) for r in rows}


def difference(after: Scores, before: Scores) -> Interval | None:
    """Return the mean of after - before with its paired interval; None where no problem is in both."""
    both = sorted(after.keys() & before.keys())
    return paired([after[problem] for problem in both], [before[problem] for problem in both]) if both else None


def outcomes(rows: Rows) -> dict[str, tuple[int, int]]:
    """Return (correct, n) of each problem."""
    return {row["problem_id"]: (row["correct"], row["n"]) for row in rows}


def crossing(
    after: Mapping[str, tuple[int, int]], before: Mapping[str, tuple[int, int]], *, largest: int | None = None
) -> int | None:
    """Return the smallest k at which a model's mean pass@k is below another's, on the problems of both.

    Args:
        after: (correct, n) of each problem, of the model that is asked about.
        before: The same of the other model.
        largest: The largest k that is tried; None: the smallest n.

    Returns:
        That k; None where the model is nowhere below, or the two have no problem in common.
    """
    both = sorted(after.keys() & before.keys())
    if not both:
        return None
    drawn = min(n for found in (after, before) for problem in both for n in found[problem][1:])
    largest = drawn if largest is None else largest
    return falls_below([after[i] for i in both], [before[i] for i in both], largest=largest)
