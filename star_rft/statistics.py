"""Estimators of pass@k and of votes, and 95% intervals.

Names of arrays end in their axes, one letter a dimension, in all modules of `frontier`, `evaluation` and `experiments`:

- P: problems
- N: samples of one problem
- K: values of k, or kinds of diversity (`frontier.gains`)
- S: training seeds
- R: bootstrap resamples
- M: subsets of a problem's samples
- A: answers that get votes
- F: figures that are computed together
- U: distinct states of problems: those with equal counts are computed once
- L: steps of a gain curve
- J: shapes of a mixture

Tensors of models have B sequences, T tokens and V entries of the vocabulary.
"""

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
SUBSETS = 2000  # of a problem's samples; where there are more subsets, a vote is averaged over this many random ones


def pass_at_k(correct: int, n: int, k: int) -> float:
    """Return the unbiased estimate of pass@k of one problem: 1 - C(n-c, k) / C(n, k).

    That is the share of the subsets of k samples that hold a correct one (Chen et al. 2021, arXiv 2107.03374,
    equation 1).

    Args:
        correct: c, the correct samples.
        n: All samples.
        k: How many samples may be tried.

    Returns:
        A probability, 0 to 1.

    Raises:
        ValueError: k is below 1, or above n, where no unbiased estimate exists.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, not {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def summed_pass_at_k(outcomes_P: Sequence[tuple[int, int]], k: int) -> Fraction:
    """Return the sum of pass@k over problems as an exact fraction, so that equal curves compare as equal.

    Args:
        outcomes_P: (correct, n) of each problem.
        k: At most the smallest n.
    """
    alike = Counter(outcomes_P)
    return sum((m * (1 - Fraction(comb(n - c, k), comb(n, k))) for (c, n), m in alike.items()), Fraction())


def falls_below(after_P: Sequence[tuple[int, int]], before_P: Sequence[tuple[int, int]], *, largest: int) -> int | None:
    """Return the smallest k at which the mean pass@k of one model is below that of another; None where it never is.

    Args:
        after_P: (correct, n) of each problem, of the model that is asked about.
        before_P: The same of the other model, for the same problems in the same order.
        largest: Largest k that is tried; at most the smallest n.
    """
    ks = range(1, largest + 1)
    return next((k for k in ks if summed_pass_at_k(after_P, k) < summed_pass_at_k(before_P, k)), None)


def majority_at_k(answers: Sequence[str | None], is_correct: Sequence[bool], k: int) -> float:
    """Return whether the most frequent answer of the first k samples of a problem is correct.

    Answers that the verifier judged correct count as one answer, however they are written.

    Args:
        answers: The answer of each sample; a sample without one (None) does not vote.
        is_correct: Whether the verdict on each sample is correct.
        k: How many samples vote.

    Returns:
        1 or 0; where m answers tie, 1/m if the correct one is among them. 0 where nothing votes.
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
    """Return a mean over problems with its 95% percentile bootstrap interval (Efron 1979).

    Problems are resampled, not samples: the interval is of the mean over problems like these.

    Args:
        values_P: A value a problem.
        seed: Of the `RESAMPLES` resamples; the same seed and number of problems give the same ones.

    Raises:
        ValueError: There are no values.
    """
    values = np.asarray(values_P, dtype=np.float64)
    if values.size == 0:
        raise ValueError("there are no problems to take a mean of")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [values[rng.integers(0, values.size, (rows, values.size))].mean(axis=1) for rows in _row_blocks(values.size)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_columns(values_P_F: Floats, *, seed: int = 0) -> list[Interval]:
    """Return the mean and its interval of each column, as `bootstrap` does, from the same resamples for all columns.

    Args:
        values_P_F: A row a problem, a column a figure.
        seed: Of the resamples.

    Raises:
        ValueError: There are no rows.
    """
    values = np.asarray(values_P_F, dtype=np.float64)
    problems = len(values)
    if problems == 0:
        raise ValueError("there are no problems to take a mean of")
    rng, means = np.random.default_rng(seed), []
    for rows in _row_blocks(problems):
        drawn_R_P = rng.integers(0, problems, (rows, problems))
        # How often each problem is in each resample: a resample's mean of all columns is then one matrix product.
        flat = (drawn_R_P + np.arange(rows)[:, None] * problems).ravel()
        times_R_P = np.bincount(flat, minlength=rows * problems).reshape(rows, problems)
        means.append(times_R_P @ values / problems)
    lows, highs = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return [Interval(*map(float, found)) for found in zip(values.mean(axis=0), lows, highs, strict=True)]


def paired(after_P: Sequence[float] | Floats, before_P: Sequence[float] | Floats, *, seed: int = 0) -> Interval:
    """Return the mean difference between two models on the same problems, with its 95% bootstrap interval.

    How hard a problem is cancels out in its difference, so the interval is narrower than those of two means.

    Args:
        after_P: A score a problem of one model.
        before_P: Scores of the other model, for the same problems in the same order.
        seed: Of the resamples.

    Returns:
        after - before.

    Raises:
        ValueError: The two differ in length, or are empty.
    """
    after, before = np.asarray(after_P, dtype=np.float64), np.asarray(before_P, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(f"a paired interval needs the same problems: {after.shape} against {before.shape}")
    return bootstrap(after - before, seed=seed)


def crossed(after_S_P: Floats, before_S_P: Floats, *, seed: int = 0) -> Interval:
    """Return the mean difference between two ways to train, with a 95% interval over problems and training seeds.

    Problems and seeds are resampled independently (crossed). Of s seeds a resample draws s - 1: drawing s would make
    the variance of a mean of few too small by the factor (s - 1) / s (Rao and Wu 1988). With three seeds the interval
    covers the true difference about nine times in ten. A single seed is drawn every time, and only problems vary.

    Args:
        after_S_P: A row a training seed, a score a problem.
        before_S_P: The same of the other way to train, with its own seeds and the same problems in the same order.
        seed: Of the resamples.

    Returns:
        after - before.

    Raises:
        ValueError: The numbers of problems differ.
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
    """Return the one-sided upper bound of a pass rate (Clopper and Pearson 1934); near 3/n where nothing was correct.

    Args:
        correct: The correct samples.
        n: All samples.
        confidence: The chance that the true rate is below the bound, at least.
    """
    if n == 0 or correct >= n:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(correct + 1, n - correct, confidence))


def fitted_beta(
    k: Floats,
    n: Floats,
    weight: Floats,
    *,
    around: tuple[float, float],
    spread: float,
    bounds: tuple[float, float],
    start: tuple[float, float] | None = None,
    scale: float = 1.0,
) -> tuple[float, float]:
    """Return the most probable (a, b) of a Beta(a, b) of success rates (maximum a posteriori, by L-BFGS-B).

    The likelihood of k of n successes is B(a + k, b + n - k) / B(a, b). log a and log b have a normal prior, which
    matters only where there are few observations.

    Args:
        k: Successes of each observation; need not be whole.
        n: Trials of each observation.
        weight: How often each observation counts.
        around: Centre of the prior, as (a, b).
        spread: Standard deviation of the prior, of log a and log b.
        bounds: Smallest and largest log a and log b.
        start: Where the search begins; None: at `around`.
        scale: What the objective is divided by. It sets how exact the result is: the search ends by absolute change.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma

    centre = np.log(around)

    def loss(logs: Floats) -> tuple[float, Floats]:
        a, b = np.exp(logs)
        off = (logs - centre) / spread
        value = float(weight @ (betaln(k + a, n - k + b) - betaln(a, b))) - float(off @ off) / 2
        # Derivatives by log a and log b; digamma is the derivative of log Gamma, and betaln three of those.
        of_both = digamma(a + b) - digamma(n + a + b)
        slope_a = a * float(weight @ (digamma(k + a) - digamma(a) + of_both))
        slope_b = b * float(weight @ (digamma(n - k + b) - digamma(b) + of_both))
        return -value / scale, (off / spread - np.array([slope_a, slope_b])) / scale

    found = minimize(loss, np.log(start or around), jac=True, method="L-BFGS-B", bounds=[bounds] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


def _row_blocks(size: int) -> list[int]:
    """Return the numbers of resamples to draw at once: 8 million indices of 8 bytes are 64 MB."""
    rows = max(1, min(RESAMPLES, 8_000_000 // size))
    whole, rest = divmod(RESAMPLES, rows)
    return [rows] * whole + ([rest] if rest else [])


def chosen_at_k(scores: Sequence[float | None], k: int) -> Floats:
    """Return the probability with which best-of-k chooses each sample of a problem, over all subsets of k samples.

    Its dot product with the outcomes of the samples is the unbiased estimate of the accuracy of best-of-k, as pass@k
    is where the scores are the verdicts. Of m samples with equal scores, with a better samples, one is chosen in
    C(n-a, k) - C(n-a-m, k) of the C(n, k) subsets: those with none of the better ones and at least one of the m.

    Args:
        scores: A score a sample; None is below every number.
        k: Size of a subset.

    Returns:
        share_N, whose sum is 1.

    Raises:
        ValueError: k is below 1 or above the number of samples, or a score is NaN.
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
    """Return how often the answer with the largest sum of weights is correct, over subsets of k samples of a problem.

    Votes are counted as in `majority_at_k`, and ties count as there. With weights of 1 it is maj@k averaged over
    subsets.

    Args:
        answers: The answer of each sample; a sample without one (None) does not vote.
        is_correct: Whether the verdict on each sample is correct.
        weights: The weight of each sample's vote, not negative. Where all are 0, all answers of a subset tie.
        k: Size of a subset.
        seed: Of the random subsets, `SUBSETS` of them, that are drawn where there are more subsets than that.

    Returns:
        The mean over subsets, 0 to 1.

    Raises:
        ValueError: k is below 1 or above the number of samples, or a weight is negative or NaN.
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
    casts_N_A = np.array([[ballot == name for name in names] for ballot in ballots], dtype=np.float64)
    subsets_M_N = _subsets(n, k, seed)
    is_given_M_A = subsets_M_N @ casts_N_A > 0
    # -1: an answer that no sample of the subset gives does not win, even where all weights are 0.
    votes_M_A = np.where(is_given_M_A, subsets_M_N @ (casts_N_A * np.asarray(weights)[:, None]), -1.0)
    top_M_1 = votes_M_A.max(axis=1, keepdims=True)
    # Equal sums can differ in their last bits, by the order of adding.
    is_winner_M_A = is_given_M_A & (votes_M_A >= top_M_1 - 1e-9 * np.abs(top_M_1))
    return float(np.mean(is_winner_M_A[:, 0] / np.maximum(is_winner_M_A.sum(axis=1), 1)))


def kl_of_best_of_k(k: int) -> float:
    """Return log k - (k-1)/k nats, an upper bound of KL(best-of-k || policy) (arXiv 2401.01879)."""
    return log(k) - (k - 1) / k


@lru_cache(maxsize=64)
def _subsets(n: int, k: int, seed: int) -> Floats:
    """Return all subsets of k of n, or `SUBSETS` random ones where there are more: a row (M, N) of 0 and 1 each."""
    if comb(n, k) <= SUBSETS:
        members = np.array(list(combinations(range(n), k)))
    else:
        members = np.random.default_rng(seed).random((SUBSETS, n)).argsort(axis=1)[:, :k]
    subsets_M_N = np.zeros((len(members), n))
    np.put_along_axis(subsets_M_N, members, 1.0, axis=1)
    return subsets_M_N
