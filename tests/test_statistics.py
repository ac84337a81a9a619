from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from star_rft.statistics import bootstrap, majority_at_k, paired, pass_at_k, upper_bound


@pytest.mark.parametrize(("n", "correct"), [(4, 0), (4, 1), (4, 4), (7, 3)])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n: int, correct: int) -> None:
    samples = [True] * correct + [False] * (n - correct)
    for k in range(1, n + 1):
        subsets = list(combinations(samples, k))
        assert pass_at_k(correct, n, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_one_right_of_four_is_always_found_in_four() -> None:
    """An estimate with replacement gives 0.684 here (verl)."""
    assert pass_at_k(1, 4, 4) == 1.0


def test_pass_at_k_beyond_the_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 samples"):
        pass_at_k(1, 4, 8)


def test_the_majority_ignores_samples_without_an_answer_and_shares_ties() -> None:
    assert majority_at_k(["3", "3", "4"], [True, True, False], 3) == 1.0
    assert majority_at_k(["3", "4", "4"], [True, False, False], 3) == 0.0
    assert majority_at_k(["3", "4", None, None], [True, False, False, False], 4) == 0.5
    assert majority_at_k([None, None], [False, False], 2) == 0.0


def test_right_answers_vote_together_however_they_are_written() -> None:
    assert majority_at_k(["1/2", "0.5", "3", "3"], [True, True, False, False], 4) == 0.5
    assert majority_at_k(["1/2", "0.5", "3"], [True, True, False], 3) == 1.0


def test_the_bootstrap_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).binomial(8, 0.3, 300) / 8
    interval = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(300)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.006)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.006)


def test_pairing_makes_the_interval_of_a_change_tighter() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(200)
    after = before + 0.05 + rng.normal(0, 0.02, 200)
    change = paired(after, before)
    assert change.low > 0.04
    assert change.high - change.low < (bootstrap(after).high - bootstrap(after).low) / 5


def test_a_paired_interval_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="the same problems"):
        paired([1.0, 0.0], [1.0])


@pytest.mark.parametrize(("correct", "n"), [(0, 8), (0, 64), (3, 10)])
def test_the_upper_bound_is_clopper_and_pearson_s(correct: int, n: int) -> None:
    assert upper_bound(correct, n) == pytest.approx(stats.beta.ppf(0.95, correct + 1, n - correct), abs=1e-9)


def test_none_of_k_bounds_the_pass_rate_near_three_over_k() -> None:
    assert upper_bound(0, 100) == pytest.approx(3 / 100, rel=0.03)
    assert upper_bound(0, 0) == 1.0
