"""Expected number of new distinct correct traces in further samples of a problem.

Two things are estimated from all counts of the run so far: how pass rates are distributed over problems
(`pass_rate_prior`), and how often a correct trace is a new one (`diversities`). Letters of axes are those of
`star_rft.statistics`, and in this module C: distinct pairs of (distinct traces d, correct traces c); D: numbers of
distinct traces; X: tabulated numbers of further correct traces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from star_rft.frontier.counts import ProblemCounts
from star_rft.statistics import Floats, Ints, fitted_beta

# Counts with their discounted past are rounded to a quarter of a sample, so that many problems share a state.
QUARTERS = 4
# Weight, in samples, of the mean length over all problems in the estimate of one problem's mean length.
LENGTH_WEIGHT = 2.0
# Kinds of diversity, each a pair of parameters of a Pitman-Yor process: concentrations theta, from "nearly always the
# same trace" to "nearly always a new one", and discounts sigma: the larger, the slower new traces get rarer.
THETA_K, SIGMA_K = (
    grid.ravel() for grid in np.meshgrid(np.geomspace(0.05, 50.0, 6), [0.02, 0.2, 0.4, 0.6, 0.8], indexing="ij")
)
# Numbers of further correct traces for which new ones are tabulated; between them they are interpolated.
AHEAD_X = np.concatenate([[0.0], np.geomspace(0.25, 4096.0, 43)])


def mean_lengths(counts: ProblemCounts) -> Floats:
    """Return the mean tokens a sample of each problem, shrunk to the mean over all problems; at least 1."""
    mean = counts.tokens_P.sum() / max(1, counts.samples_P.sum())
    length_P: Floats = np.maximum(1.0, (counts.tokens_P + LENGTH_WEIGHT * mean) / (counts.samples_P + LENGTH_WEIGHT))
    return length_P


def pass_rate_prior(counts: ProblemCounts) -> tuple[float, float]:
    """Return (a, b) of the Beta(a, b) of pass rates over the problems, by maximum likelihood over all counts.

    It is right also where sampling stopped because of what it saw: a stopping rule is a factor of the likelihood that
    does not depend on a and b. An estimate from moments would be biased. The prior, a normal of deviation 2 around
    log 1, matters only where there is almost nothing to fit.
    """
    (samples_U, correct_U), _, count_U = _states(*_evidence(counts))
    return fitted_beta(
        correct_U / QUARTERS,
        samples_U / QUARTERS,
        count_U.astype(np.float64),
        around=(1.0, 1.0),
        spread=2.0,
        bounds=(-5.0, 7.0),
        scale=float(count_U.sum()),
    )


# How likely the next correct trace is a new one


def likelihoods(distinct_C: Ints, among_C: Ints) -> Floats:
    """Return P(d distinct among c correct traces) for each kind of diversity.

    Correct traces are modelled as a Pitman-Yor process (Pitman and Yor 1997): after c of them with d distinct, the next
    one is new with probability (theta + sigma d) / (theta + c). So P(d | c + 1) follows from P(d | c).

    Args:
        distinct_C: d of each pair.
        among_C: c of each pair, at least d.

    Returns:
        likelihood_C_K, each row divided by its largest value: only ratios of kinds matter.
    """
    chance_D_K = np.zeros((int(distinct_C.max(initial=0)) + 1, THETA_K.size))
    chance_D_K[0] = 1.0
    found_C_K = np.ones((among_C.size, THETA_K.size))
    order_C = np.argsort(among_C, kind="stable")
    new_D_K = THETA_K + SIGMA_K * np.arange(len(chance_D_K))[:, None]
    # One pass over c = 0, 1, 2, ...: `states` are the pairs with this c, and chance_D_K is P(d | c).
    for c, states in enumerate(np.split(order_C, np.searchsorted(among_C[order_C], np.arange(1, among_C.max() + 1)))):
        if c > 0:
            is_new_D_K = np.minimum(1.0, new_D_K / (THETA_K + c - 1))
            grown_D_K = chance_D_K[:-1] * is_new_D_K[:-1]
            chance_D_K *= 1.0 - is_new_D_K
            chance_D_K[1:] += grown_D_K
        found_C_K[states] = chance_D_K[distinct_C[states]]
    found_C_K = np.maximum(found_C_K, 1e-300)
    found_C_K /= found_C_K.max(axis=1, keepdims=True)
    return found_C_K


def diversities(distinct_C: Ints, among_C: Ints, count_C: Ints, *, iterations: int = 50) -> Floats:
    """Return the posterior probability of each kind of diversity for each pair of counts.

    The share of each kind among the problems is fitted by expectation maximisation (Dempster, Laird, Rubin 1977). One
    more problem, spread evenly over the kinds, keeps every share above 0.

    Args:
        distinct_C: d of each pair.
        among_C: c of each pair.
        count_C: How many problems have each pair.
        iterations: Of expectation maximisation.

    Returns:
        weight_C_K, whose rows sum to 1.
    """
    likelihood_C_K = likelihoods(distinct_C, among_C)
    weight_C_K = np.empty_like(likelihood_C_K)
    share_K = np.full(THETA_K.size, 1.0 / THETA_K.size)
    for _ in range(iterations):
        weight_C_K = likelihood_C_K * share_K
        weight_C_K /= weight_C_K.sum(axis=1, keepdims=True)
        share_K = count_C @ weight_C_K + 1.0 / THETA_K.size
        share_K /= share_K.sum()
    return weight_C_K


def expected_new(distinct_C: Ints, among_C: Ints, weight_C_K: Floats, ahead_X: Floats) -> Floats:
    """Return how many new distinct traces are expected in x further correct ones, averaged over kinds of diversity.

    For one kind, (d + theta/sigma) ((theta + c + sigma)_x / (theta + c)_x - 1) with (y)_x = Gamma(y + x) / Gamma(y)
    (Pitman 2006, Combinatorial Stochastic Processes, equation 3.13, continued from d distinct among c).

    Args:
        distinct_C: d of each pair.
        among_C: c of each pair.
        weight_C_K: What `diversities` returns.
        ahead_X: The numbers x; need not be whole.

    Returns:
        new_C_X.
    """
    from scipy.special import gammaln

    new_C_X = np.zeros((among_C.size, ahead_X.size))
    for theta, sigma, weight_C in zip(THETA_K, SIGMA_K, weight_C_K.T, strict=True):
        shape_C_1 = theta + among_C[:, None]
        log_ratio_C_X = gammaln(shape_C_1 + sigma + ahead_X) - gammaln(shape_C_1 + ahead_X)
        log_ratio_C_X += gammaln(shape_C_1) - gammaln(shape_C_1 + sigma)
        new_C_X += (weight_C * (distinct_C + theta / sigma))[:, None] * np.expm1(log_ratio_C_X)
    return new_C_X


# Gain curves


@dataclass(frozen=True, slots=True)
class Gains:
    """Expected gain of further samples, for each state of counts, in steps of doubling size (1, 1, 2, 4, ... samples).

    Attributes:
        start_L: Further samples before each step.
        size_L: Samples in each step.
        rate_U_L: Expected gain of one sample of the step, in distinct correct traces.
        needed_U: Further samples until the expected number of distinct correct traces reaches the cap.
    """

    start_L: Ints
    size_L: Ints
    rate_U_L: Floats
    needed_U: Floats


def gain_curves(counts: ProblemCounts, open_P: Ints, *, cap: int, most: int, first: float) -> tuple[Gains, Ints]:
    """Return what further samples of some problems are expected to bring.

    The pass rate of a problem has the posterior Beta(alpha, beta). It is replaced by two points with the same first two
    moments: rate 0, and with probability p / q the rate q = (alpha + 1) / (alpha + beta + 1), where p is the mean
    alpha / (alpha + beta). At rate q, m samples hold m q correct ones. The number of new traces among them is taken as
    Poisson with the mean of `expected_new`; at most cap - d of them count. The probability that m samples hold a first
    correct one is exact: 1 - B(alpha, beta + m) / B(alpha, beta).

    Args:
        counts: Counts of all problems.
        open_P: Indices of the problems to return gains for.
        cap: Distinct correct traces of a problem that count.
        most: Most samples of a problem.
        first: What the first correct trace of a problem counts in addition to 1.

    Returns:
        The gains by state, and the state of each problem of `open_P`.
    """
    from scipy.special import betaln

    a, b = pass_rate_prior(counts)
    n_P, k_P = _evidence(counts)
    among_P = np.maximum(counts.distinct_of_P, counts.distinct_P)
    (d_C, c_C), pair_P, count_C = _states(counts.distinct_P, among_P)
    new_C_X = expected_new(d_C, c_C, diversities(d_C, c_C, count_C), AHEAD_X)
    (n_U, k_U, pair_U), state_P, _ = _states(n_P[open_P], k_P[open_P], pair_P[open_P])
    d_U = d_C[pair_U]
    alpha_U, beta_U = a + k_U / QUARTERS, b + (n_U - k_U) / QUARTERS
    q_U = (alpha_U + 1) / (alpha_U + beta_U + 1)
    reachable_U = alpha_U / (alpha_U + beta_U) / q_U
    # Steps of 1, 1, 2, 4, ... samples.
    size_L = 2 ** np.maximum(np.arange(int(np.ceil(np.log2(max(2, most)))) + 1) - 1, 0)
    end_L = size_L.cumsum()
    new_U_L = _between(new_C_X, pair_U, q_U[:, None] * end_L)
    gain_U_L = reachable_U[:, None] * _at_most(new_U_L, (cap - d_U)[:, None])
    is_first_U_L = 1.0 - np.exp(betaln(alpha_U[:, None], beta_U[:, None] + end_L) - betaln(alpha_U, beta_U)[:, None])
    gain_U_L += first * is_first_U_L * (d_U == 0)[:, None]
    rate_U_L = np.diff(gain_U_L, axis=1, prepend=0.0) / size_L
    return Gains(end_L - size_L, size_L, rate_U_L, _until_filled(new_U_L, cap - d_U, end_L)), state_P


def _between(new_C_X: Floats, pair_U: Ints, ahead_U_L: Floats) -> Floats:
    """Interpolate the expected new traces of each state linearly in the table new_C_X."""
    step_U_L = np.clip(np.searchsorted(AHEAD_X, ahead_U_L), 1, AHEAD_X.size - 1)
    part_U_L = (ahead_U_L - AHEAD_X[step_U_L - 1]) / (AHEAD_X[step_U_L] - AHEAD_X[step_U_L - 1])
    low_U_L, high_U_L = new_C_X[pair_U[:, None], step_U_L - 1], new_C_X[pair_U[:, None], step_U_L]
    new_U_L: Floats = low_U_L + np.minimum(part_U_L, 1.0) * (high_U_L - low_U_L)
    return new_U_L


def _at_most(mean: Floats, limit: Ints) -> Floats:
    """Return E[min(X, limit)] of a Poisson X: mean P(X <= limit - 2) + limit P(X >= limit)."""
    from scipy.special import gammainc, gammaincc

    # P(X < s) is gammaincc(s, mean), and P(X >= s) is gammainc(s, mean).
    below = np.where(limit >= 2, gammaincc(np.maximum(limit - 1, 1), mean), 0.0)
    found: Floats = mean * below + limit * gammainc(limit, mean)
    return found


def _until_filled(new_U_L: Floats, need_U: Ints, end_L: Ints) -> Floats:
    """Return after how many samples the expected new traces reach `need_U`, interpolated linearly within a step."""
    new_U_L = np.concatenate([np.zeros((len(new_U_L), 1)), new_U_L, np.full((len(new_U_L), 1), np.inf)], axis=1)
    ends_L = np.concatenate([[0], end_L, [end_L[-1]]])
    step_U = (new_U_L < need_U[:, None]).sum(axis=1)
    row = np.arange(len(new_U_L))
    low_U, high_U = new_U_L[row, step_U - 1], new_U_L[row, step_U]
    part_U = np.where(np.isfinite(high_U), (need_U - low_U) / (high_U - low_U), 0.0)
    needed_U: Floats = ends_L[step_U - 1] + part_U * (ends_L[step_U] - ends_L[step_U - 1])
    return needed_U


def _evidence(counts: ProblemCounts) -> tuple[Ints, Ints]:
    """Return samples and correct samples of each problem with their discounted past, in quarters of a sample."""
    samples_P = counts.samples_P * QUARTERS + np.rint(counts.past_samples_P * QUARTERS).astype(np.int64)
    correct_P = counts.correct_P * QUARTERS + np.rint(counts.past_correct_P * QUARTERS).astype(np.int64)
    return samples_P, np.minimum(correct_P, samples_P)


def _states(*columns_P: Ints) -> tuple[list[Ints], Ints, Ints]:
    """Return the distinct rows of some columns (as columns), the row of each problem, and how many have each row."""
    # The row so far and the next column are combined into one integer: much faster than np.unique over rows.
    state_P = np.zeros(columns_P[0].shape, dtype=np.int64)
    for column_P in columns_P:
        values, which_P = np.unique(column_P, return_inverse=True)
        _, first_U, state_P, count_U = np.unique(
            state_P * values.size + which_P, return_index=True, return_inverse=True, return_counts=True
        )
    return [column_P[first_U] for column_P in columns_P], state_P, count_U
