"""Expected gain of further samples of a problem, from pass rates and diversity learned in the run.

Arrays carry their axes: N problems, S distinct states of counts, T kinds of diversity, J steps of a gain curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from star_rft.frontier.counts import ProblemCounts
from star_rft.statistics import Floats, Ints

# Counts with their discounted past are told apart to a quarter of a sample: few states, whatever the discounts.
QUARTERS = 4
# The weight, in samples, of the population's mean length in the estimate of one problem's mean length.
LENGTH_WEIGHT = 2.0
# Kinds of diversity: concentrations from "nearly always the same trace" to "nearly always a new one", and discounts,
# which say how fast that changes.
THETA_T, SIGMA_T = (
    grid.ravel() for grid in np.meshgrid(np.geomspace(0.05, 50.0, 6), [0.02, 0.2, 0.4, 0.6, 0.8], indexing="ij")
)
# How many correct traces ahead new ones are tabulated; between them a line.
AHEAD_X = np.concatenate([[0.0], np.geomspace(0.25, 4096.0, 43)])


def mean_lengths(counts: ProblemCounts) -> Floats:
    """Return each problem's mean tokens a sample, its own shrunk to the population's."""
    mean = counts.tokens_N.sum() / max(1, counts.samples_N.sum())
    length_N: Floats = np.maximum(1.0, (counts.tokens_N + LENGTH_WEIGHT * mean) / (counts.samples_N + LENGTH_WEIGHT))
    return length_N


def pass_rate_prior(counts: ProblemCounts) -> tuple[float, float]:
    """Return a, b of the Beta(a, b) of pass rates over the population, by maximum likelihood over all counts.

    A problem with c of n correct has the likelihood B(a + c, b + n - c) / B(a, b). Where sampling stopped because of
    what it saw this is still right, and moments would be biased: a stopping rule is a factor without a and b. log a
    and log b have a normal prior of deviation 2 around 0, which holds only where there is almost nothing to fit.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma

    (samples_S, correct_S), _, count_S = _states(*_evidence(counts))
    n_S, c_S = samples_S / QUARTERS, correct_S / QUARTERS
    total = float(count_S.sum())

    def loss(log_ab: Floats) -> tuple[float, Floats]:
        a, b = np.exp(log_ab)
        fit = count_S @ (betaln(a + c_S, b + n_S - c_S) - betaln(a, b))
        both = digamma(a + b) - digamma(a + b + n_S)
        da = a * (count_S @ (digamma(a + c_S) - digamma(a) + both))
        db = b * (count_S @ (digamma(b + n_S - c_S) - digamma(b) + both))
        return float((log_ab @ log_ab / 8 - fit) / total), (log_ab / 4 - np.array([da, db])) / total

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-5.0, 7.0)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)


# Diversity: how likely the next correct trace is a new one


def likelihoods(distinct_S: Ints, among_S: Ints) -> Floats:
    """Return P(d distinct among c correct traces) for each kind of diversity, each row scaled to a largest of 1.

    Correct traces are taken to be a Pitman-Yor process: after c of them with d distinct the next one is new with
    probability (theta + sigma d) / (theta + c). Adding them one at a time gives P(d | c + 1) from P(d | c).
    """
    chance_D_T = np.zeros((int(distinct_S.max(initial=0)) + 1, THETA_T.size))
    chance_D_T[0] = 1.0
    found_S_T = np.ones((among_S.size, THETA_T.size))
    order_S = np.argsort(among_S, kind="stable")
    new_D_T = THETA_T + SIGMA_T * np.arange(len(chance_D_T))[:, None]
    for c, states in enumerate(np.split(order_S, np.searchsorted(among_S[order_S], np.arange(1, among_S.max() + 1)))):
        if c > 0:
            is_new_D_T = np.minimum(1.0, new_D_T / (THETA_T + c - 1))
            grown_D_T = chance_D_T[:-1] * is_new_D_T[:-1]
            chance_D_T *= 1.0 - is_new_D_T
            chance_D_T[1:] += grown_D_T
        found_S_T[states] = chance_D_T[distinct_S[states]]
    found_S_T = np.maximum(found_S_T, 1e-300)
    found_S_T /= found_S_T.max(axis=1, keepdims=True)
    return found_S_T


def diversities(distinct_P: Ints, among_P: Ints, count_P: Ints, *, iterations: int = 50) -> Floats:
    """Return the posterior weight of each kind of diversity for `count_P` problems in each of these states.

    The kinds' shares of the population are found by expectation maximisation; one problem's weight, spread over all
    kinds, keeps any from being ruled out.
    """
    likelihood_P_T = likelihoods(distinct_P, among_P)
    weight_P_T = np.empty_like(likelihood_P_T)
    share_T = np.full(THETA_T.size, 1.0 / THETA_T.size)
    for _ in range(iterations):
        weight_P_T = likelihood_P_T * share_T
        weight_P_T /= weight_P_T.sum(axis=1, keepdims=True)
        share_T = count_P @ weight_P_T + 1.0 / THETA_T.size
        share_T /= share_T.sum()
    return weight_P_T


def expected_new(distinct_S: Ints, among_S: Ints, weight_S_T: Floats, ahead_X: Floats) -> Floats:
    """Return how many new traces are expected in so many further correct ones.

    (d + theta/sigma) ((theta + c + sigma)_x / (theta + c)_x - 1), with (y)_x = Gamma(y + x) / Gamma(y) (Pitman 2006,
    equation 3.13, from d distinct among c on), averaged over the kinds of diversity.
    """
    from scipy.special import gammaln

    new_S_X = np.zeros((among_S.size, ahead_X.size))
    for theta, sigma, weight_S in zip(THETA_T, SIGMA_T, weight_S_T.T, strict=True):
        seated_S_1 = theta + among_S[:, None]
        log_ratio_S_X = gammaln(seated_S_1 + sigma + ahead_X) - gammaln(seated_S_1 + ahead_X)
        log_ratio_S_X += gammaln(seated_S_1) - gammaln(seated_S_1 + sigma)
        new_S_X += (weight_S * (distinct_S + theta / sigma))[:, None] * np.expm1(log_ratio_S_X)
    return new_S_X


# Gain curves


@dataclass(frozen=True, slots=True)
class Gains:
    """Of each state S, in steps J of further samples: step j begins after `start` and has `size` samples.

    `rate` is what one sample of a step is expected to bring; `needed` how many samples would fill the cap.
    """

    start_J: Ints
    size_J: Ints
    rate_S_J: Floats
    needed_S: Floats


def gain_curves(counts: ProblemCounts, open_N: Ints, *, cap: int, most: int, first: float) -> tuple[Gains, Ints]:
    """Return what further samples are expected to bring, and the state of each of the problems `open_N`.

    The posterior Beta(alpha, beta) of the pass rate is replaced by two points with its first two moments: 0, and with
    probability r = p / q the rate q = (alpha + 1) / (alpha + beta + 1), where p = alpha / (alpha + beta). At q, m
    samples hold m q correct ones; the number of new traces among them is taken as Poisson with the mean of
    `expected_new`, of which at most cap - d count. The chance that m samples hold the first correct one needs no such
    help: 1 - B(alpha, beta + m) / B(alpha, beta).
    """
    from scipy.special import betaln

    a, b = pass_rate_prior(counts)
    n_N, k_N = _evidence(counts)
    among_N = np.maximum(counts.distinct_of_N, counts.distinct_N)
    (d_P, c_P), pair_N, count_P = _states(counts.distinct_N, among_N)
    new_P_X = expected_new(d_P, c_P, diversities(d_P, c_P, count_P), AHEAD_X)
    (n_S, k_S, pair_S), state_N, _ = _states(n_N[open_N], k_N[open_N], pair_N[open_N])
    d_S = d_P[pair_S]
    alpha_S, beta_S = a + k_S / QUARTERS, b + (n_S - k_S) / QUARTERS
    q_S = (alpha_S + 1) / (alpha_S + beta_S + 1)
    reachable_S = alpha_S / (alpha_S + beta_S) / q_S
    size_J = 2 ** np.maximum(np.arange(int(np.ceil(np.log2(max(2, most)))) + 1) - 1, 0)
    end_J = size_J.cumsum()
    new_S_J = _between(new_P_X, pair_S, q_S[:, None] * end_J)
    gain_S_J = reachable_S[:, None] * _at_most(new_S_J, (cap - d_S)[:, None])
    is_first_S_J = 1.0 - np.exp(betaln(alpha_S[:, None], beta_S[:, None] + end_J) - betaln(alpha_S, beta_S)[:, None])
    gain_S_J += first * is_first_S_J * (d_S == 0)[:, None]
    rate_S_J = np.diff(gain_S_J, axis=1, prepend=0.0) / size_J
    return Gains(end_J - size_J, size_J, rate_S_J, _until_filled(new_S_J, cap - d_S, end_J)), state_N


def _between(new_P_X: Floats, pair_S: Ints, ahead_S_J: Floats) -> Floats:
    """Look new traces up between the tabulated numbers of correct ones."""
    step_S_J = np.clip(np.searchsorted(AHEAD_X, ahead_S_J), 1, AHEAD_X.size - 1)
    part_S_J = (ahead_S_J - AHEAD_X[step_S_J - 1]) / (AHEAD_X[step_S_J] - AHEAD_X[step_S_J - 1])
    low_S_J, high_S_J = new_P_X[pair_S[:, None], step_S_J - 1], new_P_X[pair_S[:, None], step_S_J]
    new_S_J: Floats = low_S_J + np.minimum(part_S_J, 1.0) * (high_S_J - low_S_J)
    return new_S_J


def _at_most(mean: Floats, limit: Ints) -> Floats:
    """Return E[min(X, limit)] of a Poisson X: mean P(X <= limit - 2) + limit P(X >= limit)."""
    from scipy.special import gammainc, gammaincc

    below = np.where(limit >= 2, gammaincc(np.maximum(limit - 1, 1), mean), 0.0)
    found: Floats = mean * below + limit * gammainc(limit, mean)
    return found


def _until_filled(new_S_J: Floats, need_S: Ints, end_J: Ints) -> Floats:
    """Return after how many samples the expected new traces reach the need, between the ends of steps by a line."""
    new_S_J = np.concatenate([np.zeros((len(new_S_J), 1)), new_S_J, np.full((len(new_S_J), 1), np.inf)], axis=1)
    ends_J = np.concatenate([[0], end_J, [end_J[-1]]])
    step_S = (new_S_J < need_S[:, None]).sum(axis=1)
    row = np.arange(len(new_S_J))
    low_S, high_S = new_S_J[row, step_S - 1], new_S_J[row, step_S]
    part_S = np.where(np.isfinite(high_S), (need_S - low_S) / (high_S - low_S), 0.0)
    needed_S: Floats = ends_J[step_S - 1] + part_S * (ends_J[step_S] - ends_J[step_S - 1])
    return needed_S


def _evidence(counts: ProblemCounts) -> tuple[Ints, Ints]:
    """Return samples and correct ones with their past, in quarters."""
    samples_N = counts.samples_N * QUARTERS + np.rint(counts.past_samples_N * QUARTERS).astype(np.int64)
    correct_N = counts.correct_N * QUARTERS + np.rint(counts.past_correct_N * QUARTERS).astype(np.int64)
    return samples_N, np.minimum(correct_N, samples_N)


def _states(*columns_N: Ints) -> tuple[list[Ints], Ints, Ints]:
    """Return the distinct rows of columns (a list of columns), the row of each entry, and how many have each."""
    state_N = np.zeros(columns_N[0].shape, dtype=np.int64)
    for column_N in columns_N:
        value_V, which_N = np.unique(column_N, return_inverse=True)
        _, first_S, state_N, count_S = np.unique(
            state_N * value_V.size + which_N, return_index=True, return_inverse=True, return_counts=True
        )
    return [column_N[first_S] for column_N in columns_N], state_N, count_S
