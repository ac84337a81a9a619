"""Estimators and intervals. Arrays are per problem: [P] is problems, [P, N] samples a problem."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt

from star_rft.types import Interval

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000


def pass_at_k(correct: int, n: int, k: int) -> float:
    """Return the unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, equation 1).

    Raises ValueError where k > n: there is no unbiased estimate then.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, not {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority_at_k(answers: Sequence[str | None], is_correct: Sequence[bool], k: int) -> float:
    """Score the majority answer of the first k samples: 1, 0, or the share of the winners' ties that is right.

    A sample without an answer does not vote. Answers that a verifier judged correct vote together, however
    they are written.
    """
    right = object()
    counts: dict[object, int] = {}
    for answer, good in zip(answers[:k], is_correct[:k], strict=True):
        ballot: object = right if good else answer
        if ballot is not None:
            counts[ballot] = counts.get(ballot, 0) + 1
    top = max(counts.values(), default=0)
    winners = [ballot for ballot, count in counts.items() if count == top]
    return float(right in winners) / len(winners) if winners else 0.0


def bootstrap(values_P: Sequence[float] | Floats, *, seed: int = 0) -> Interval:
    """Return the mean with its 95% percentile interval, resampling problems (not samples)."""
    values = np.asarray(values_P, dtype=np.float64)
    if values.size == 0:
        raise ValueError("there are no problems to take a mean of")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(0, values.size, (rows, values.size))].mean(axis=1) for rows in _row_blocks(values.size)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def paired(after_P: Sequence[float] | Floats, before_P: Sequence[float] | Floats, *, seed: int = 0) -> Interval:
    """Return the mean difference on the same problems with its 95% interval: far tighter than two intervals."""
    after, before = np.asarray(after_P, dtype=np.float64), np.asarray(before_P, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(f"a paired interval needs the same problems: {after.shape} against {before.shape}")
    return bootstrap(after - before, seed=seed)


def upper_bound(correct: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a pass rate; near 3/n where nothing was correct."""
    if n == 0 or correct >= n:
        return 1.0
    low, high = correct / n, 1.0
    for _ in range(50):  # bisection on the binomial tail: no special functions, exact to 1e-15
        middle = (low + high) / 2
        tail = sum(comb(n, i) * middle**i * (1 - middle) ** (n - i) for i in range(correct + 1))
        low, high = (middle, high) if tail > 1 - confidence else (low, middle)
    return high


def _row_blocks(size: int) -> list[int]:
    """Split the resamples so that one block holds at most about 64 MB of indices."""
    rows = max(1, min(RESAMPLES, 8_000_000 // size))
    whole, rest = divmod(RESAMPLES, rows)
    return [rows] * whole + ([rest] if rest else [])
