"""What further samples of a problem are expected to bring, against processes that are simulated or summed by hand."""

from itertools import product

import numpy as np
import pytest

from star_rft.frontier.gains import (
    AHEAD_X,
    SIGMA_K,
    THETA_K,
    _at_most,
    diversities,
    expected_new,
    gain_curves,
    likelihoods,
    mean_lengths,
    pass_rate_prior,
)
from star_rft.statistics import Ints
from tests.frontier.problem_counts import counts


def test_the_prior_of_pass_rates_is_found_again_also_where_sampling_stopped_at_success() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(0.6, 1.8, 20_000)
    first_P = rng.geometric(np.maximum(rates, 1e-9))
    samples_P, correct_P = np.minimum(first_P, 16), (first_P <= 16).astype(np.int64)
    a, b = pass_rate_prior(counts(list(samples_P), list(correct_P)))
    assert a == pytest.approx(0.6, rel=0.1)
    assert b == pytest.approx(1.8, rel=0.1)


def test_with_nothing_to_learn_from_the_prior_is_weak() -> None:
    a, b = pass_rate_prior(counts([0, 0], [0, 0]))
    assert (a, b) == pytest.approx((1.0, 1.0))


def test_the_likelihood_of_a_number_of_distinct_traces_is_the_sum_over_all_ways_to_it() -> None:
    states = [(d, 5) for d in range(1, 6)]
    exact = np.zeros((5, THETA_K.size))
    for is_new in product([False, True], repeat=4):  # the first is always new
        chance_K, d = np.ones(THETA_K.size), 1
        for c, new in enumerate(is_new, start=1):
            new_K = (THETA_K + SIGMA_K * d) / (THETA_K + c)
            chance_K = chance_K * (new_K if new else 1 - new_K)
            d += new
        exact[d - 1] += chance_K
    found = likelihoods(np.array([d for d, _ in states]), np.array([c for _, c in states]))
    assert exact.sum(axis=0) == pytest.approx(1.0)
    assert found == pytest.approx(exact / exact.max(axis=1, keepdims=True))


def test_expected_new_traces_are_those_of_the_process_step_by_step() -> None:
    for kind in (0, 7, THETA_K.size - 1):
        theta, sigma = THETA_K[kind], SIGMA_K[kind]
        expected, c, d = [], 6.0, 2.0
        for _ in range(10):
            d += (theta + sigma * d) / (theta + c)  # linear in d, so its mean may be carried along
            c += 1
            expected.append(d - 2)
        weight_1_K = np.eye(THETA_K.size)[[kind]]
        found_1_X = expected_new(np.array([2]), np.array([6]), weight_1_K, np.arange(1.0, 11.0))
        assert found_1_X[0] == pytest.approx(expected)


def test_the_first_correct_trace_is_always_new() -> None:
    weight_1_K = np.full((1, THETA_K.size), 1 / THETA_K.size)
    found_1_X = expected_new(np.array([0]), np.array([0]), weight_1_K, np.array([0.0, 1.0]))
    assert found_1_X[0] == pytest.approx([0.0, 1.0])


def test_kinds_of_diversity_are_told_apart() -> None:
    """100 problems that repeat themselves and 100 that never do: each is believed to go on as it did."""
    d_C, c_C = np.array([1, 10]), np.array([10, 10])
    weight_C_K = diversities(d_C, c_C, np.array([100, 100]))
    assert weight_C_K.sum(axis=1) == pytest.approx(1.0)
    repeats, varies = expected_new(d_C, c_C, weight_C_K, np.array([1.0]))[:, 0]
    assert repeats < 0.05
    assert varies > 0.7


def test_the_poisson_mean_below_a_limit_is_that_of_its_sum() -> None:
    from scipy.stats import poisson

    for mean, limit in product([0.0, 0.3, 2.0, 9.0], [1, 2, 4, 40]):
        exact = sum(poisson.sf(j, mean) for j in range(limit))
        assert _at_most(np.array([mean]), np.array([limit]))[0] == pytest.approx(exact)


def test_gain_curves_agree_with_sampling_from_the_posterior() -> None:
    """Prompts of a known population: what 8 more samples brought on average, against what the curve expected."""
    rng = np.random.default_rng(5)
    size = 60_000
    rates_P, theta = rng.beta(1.0, 1.0, size), 2.0

    def draw(correct_P: Ints, distinct_P: Ints, samples: int) -> None:
        for _ in range(samples):
            is_correct_P = rng.random(size) < rates_P
            distinct_P += is_correct_P & (rng.random(size) < theta / (theta + correct_P))
            correct_P += is_correct_P

    correct_P, distinct_P = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    draw(correct_P, distinct_P, 8)
    seen = counts([8] * size, list(correct_P), list(distinct_P))
    open_P = np.flatnonzero(distinct_P < 4)
    gains, state_P = gain_curves(seen, open_P, cap=4, most=64, first=0.0)
    expected_P = (gains.rate_U_L * gains.size_L).cumsum(axis=1)[state_P, 3]  # steps of 1, 1, 2, 4: 8 samples
    draw(correct_P, distinct_P, 8)
    brought_P = np.minimum(distinct_P, 4)[open_P] - seen.distinct_P[open_P]
    assert expected_P.mean() == pytest.approx(brought_P.mean(), rel=0.15)
    for d in range(4):
        of_d = seen.distinct_P[open_P] == d
        assert expected_P[of_d].mean() == pytest.approx(brought_P[of_d].mean(), rel=0.25)


def test_the_table_of_traces_ahead_reaches_beyond_any_round() -> None:
    assert AHEAD_X[0] == 0
    assert AHEAD_X[-1] >= 4096


def test_a_problems_length_is_shrunk_to_the_populations() -> None:
    lengths = mean_lengths(counts([0, 2, 98], [0, 0, 0], tokens_P=np.array([0, 100, 900])))
    assert lengths == pytest.approx([10.0, (100 + 20) / 4, (900 + 20) / 100])
