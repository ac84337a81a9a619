"""Estimators and intervals. Arrays are per problem: [P] is problems, [P, N] samples a problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from math import comb, isnan, log

import numpy as np
import numpy.typing as npt

from star_rft.types import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 2000
SUBSETS = 2000  # of one problem's samples, beyond which a vote is averaged over random ones


def pass_at_k(correct: int, n: int, k: int) -> float:
    """Return the unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, equation 1).

    Raises ValueError where k > n: there is no unbiased estimate then.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, not {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def summed_pass_at_k(outcomes_P: Sequence[tuple[int, int]], k: int) -> Fraction:
    """Return the sum of pass@k over problems of (correct, n): exact, so that equal curves are equal."""
    alike = Counter(outcomes_P)
    return sum((m * (1 - Fraction(comb(n - c, k), comb(n, k))) for (c, n), m in alike.items()), Fraction())


def falls_below(after_P: Sequence[tuple[int, int]], before_P: Sequence[tuple[int, int]], *, largest: int) -> int | None:
    """Return the smallest k up to `largest` at which one curve of mean pass@k is below another; None where none is.

    Both are (correct, n) of the same problems.
    """
    ks = range(1, largest + 1)
    return next((k for k in ks if summed_pass_at_k(after_P, k) < summed_pass_at_k(before_P, k)), None)


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


def bootstrap_columns(values_P_C: Floats, *, seed: int = 0) -> list[Interval]:
    """Return `bootstrap` of each column, all from the same resamples of the problems: one pass for many figures."""
    values = np.asarray(values_P_C, dtype=np.float64)
    problems = len(values)
    if problems == 0:
        raise ValueError("there are no problems to take a mean of")
    rng, means = np.random.default_rng(seed), []
    for rows in _row_blocks(problems):
        drawn_R_P = rng.integers(0, problems, (rows, problems))
        flat = (drawn_R_P + np.arange(rows)[:, None] * problems).ravel()
        times_R_P = np.bincount(flat, minlength=rows * problems).reshape(rows, problems)
        means.append(times_R_P @ values / problems)
    lows, highs = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return [Interval(*map(float, found)) for found in zip(values.mean(axis=0), lows, highs, strict=True)]


def paired(after_P: Sequence[float] | Floats, before_P: Sequence[float] | Floats, *, seed: int = 0) -> Interval:
    """Return the mean difference on the same problems with its 95% interval: far tighter than two intervals."""
    after, before = np.asarray(after_P, dtype=np.float64), np.asarray(before_P, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(f"a paired interval needs the same problems: {after.shape} against {before.shape}")
    return bootstrap(after - before, seed=seed)


def crossed(after_S_P: Floats, before_S_P: Floats, *, seed: int = 0) -> Interval:
    """Return the mean difference of two ways to train with its 95% interval, over problems and training seeds.

    A row is a seed's model on the same problems, and each way has seeds of its own, of which one fewer is drawn than
    there are: so the variance of a mean of so few is not too small (Rao and Wu 1988). With three seeds it holds about
    nine times in ten. Of a single seed nothing is known but the problems: its part is as in `paired`.
    """
    after, before = (np.asarray(values, dtype=np.float64) for values in (after_S_P, before_S_P))
    if after.shape[1:] != before.shape[1:]:
        raise ValueError(f"a paired interval needs the same problems: {after.shape[1:]} against {before.shape[1:]}")
    rng, problems = np.random.default_rng(seed), after.shape[1]
    means = []
    for _ in range(RESAMPLES):
        drawn_P = rng.integers(0, problems, problems)
        ways = (values[rng.integers(0, len(values), max(1, len(values) - 1))] for values in (after, before))
        of_after, of_before = (float(seeds_S_P[:, drawn_P].mean()) for seeds_S_P in ways)
        means.append(of_after - of_before)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(after.mean() - before.mean()), float(low), float(high))


def upper_bound(correct: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a pass rate; near 3/n where nothing was correct."""
    if n == 0 or correct >= n:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(correct + 1, n - correct, confidence))


def _row_blocks(size: int) -> list[int]:
    """Split the resamples so that one block holds at most about 64 MB of indices."""
    rows = max(1, min(RESAMPLES, 8_000_000 // size))
    whole, rest = divmod(RESAMPLES, rows)
    return [rows] * whole + ([rest] if rest else [])


def chosen_at_k(scores: Sequence[float | None], k: int) -> Floats:
    """Return how often best-of-k chooses each sample, over all subsets of k of them; the sum is 1.

    The best m of n tied after a that are better: one of them is chosen by C(n-a, k) - C(n-a-m, k) of the C(n, k)
    subsets, each equally often. None is below every score. So the dot product with the samples' outcomes is the
    unbiased estimate of best-of-k, as pass@k is of an oracle's.
    """
    n = len(scores)
    if not 0 < k <= n:
        raise ValueError(f"best of {k} needs at least {k} samples a problem, not {n}")
    values = [float("-inf") if score is None else score for score in scores]
    if any(map(isnan, values)):
        raise ValueError("a score is not a number")
    share_N = np.zeros(n)
    better = 0
    for value in sorted(set(values), reverse=True):
        tied = [i for i, other in enumerate(values) if other == value]
        subsets = comb(n - better, k) - comb(n - better - len(tied), k)
        share_N[tied] = subsets / comb(n, k) / len(tied)
        better += len(tied)
    return share_N


def vote_at_k(
    answers: Sequence[str | None],
    is_correct: Sequence[bool],
    weights: Sequence[float],
    k: int,
    *,
    seed: int = 0,
) -> float:
    """Score the answer with the largest sum of weights, as the mean over subsets of k samples; ties count evenly.

    Ballots are those of `majority_at_k`, which weights of 1 give. The mean is over all subsets up to `SUBSETS` of
    them, else over so many random ones. Where no vote has weight, all answers given tie.
    """
    n = len(answers)
    if not 0 < k <= n:
        raise ValueError(f"a vote of {k} needs at least {k} samples a problem, not {n}")
    if not all(weight >= 0 for weight in weights):
        raise ValueError("a weight of a vote is negative or not a number")
    right = object()
    ballots: list[object] = [right if good else answer for answer, good in zip(answers, is_correct, strict=True)]
    if right not in ballots:
        return 0.0
    names = [right, *dict.fromkeys(ballot for ballot in ballots if ballot is not None and ballot is not right)]
    casts_N_B = np.array([[ballot == name for name in names] for ballot in ballots], dtype=np.float64)
    subsets_S_N = _subsets(n, k, seed)
    is_given_S_B = subsets_S_N @ casts_N_B > 0
    votes_S_B = np.where(is_given_S_B, subsets_S_N @ (casts_N_B * np.asarray(weights)[:, None]), -1.0)
    top_S_1 = votes_S_B.max(axis=1, keepdims=True)
    # Equal sums can differ in their last bits, by the order of adding.
    is_winner_S_B = is_given_S_B & (votes_S_B >= top_S_1 - 1e-9 * np.abs(top_S_1))
    return float(np.mean(is_winner_S_B[:, 0] / np.maximum(is_winner_S_B.sum(axis=1), 1)))


def kl_of_best_of_k(k: int) -> float:
    """Return log k - (k-1)/k, which the KL divergence of best-of-k from the policy does not exceed (2401.01879)."""
    return log(k) - (k - 1) / k


@lru_cache(maxsize=64)
def _subsets(n: int, k: int, seed: int) -> Floats:
    """Return one row of zeros and k ones a subset (S, N)."""
    if comb(n, k) <= SUBSETS:
        members = np.array(list(combinations(range(n), k)))
    else:
        members = np.random.default_rng(seed).random((SUBSETS, n)).argsort(axis=1)[:, :k]
    subsets_S_N = np.zeros((len(members), n))
    np.put_along_axis(subsets_S_N, members, 1.0, axis=1)
    return subsets_S_N
