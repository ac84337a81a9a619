from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from star_rft.statistics import (
    SUBSETS,
    bootstrap,
    chosen_at_k,
    crossed,
    kl_of_best_of_k,
    majority_at_k,
    paired,
    pass_at_k,
    upper_bound,
    vote_at_k,
)


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


# Few values, so that ties are common; None is not scored.
SCORES = st.lists(st.sampled_from([None, -1.5, 0.0, 0.5, 2.0]), min_size=1, max_size=7)


def best_of_every_subset(scores: list[float | None], k: int) -> list[float]:
    """Choose from each subset of k by brute force, sharing ties."""
    share = [0.0] * len(scores)
    for members in combinations(range(len(scores)), k):
        ranks = {i: (scores[i] is not None, scores[i] or 0.0) for i in members}
        best = [i for i in members if ranks[i] == max(ranks.values())]
        for i in best:
            share[i] += 1 / len(best) / comb(len(scores), k)
    return share


@given(scores=SCORES, data=st.data())
def test_best_of_k_is_the_mean_over_all_subsets(scores: list[float | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    share = chosen_at_k(scores, k)
    assert share == pytest.approx(best_of_every_subset(scores, k))
    assert share.sum() == pytest.approx(1.0)


@given(is_correct=st.lists(st.booleans(), min_size=1, max_size=9), data=st.data())
def test_best_of_k_by_an_oracle_is_pass_at_k(is_correct: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(is_correct)))
    accuracy = chosen_at_k([float(good) for good in is_correct], k) @ np.array(is_correct)
    assert accuracy == pytest.approx(pass_at_k(sum(is_correct), len(is_correct), k))


def test_best_of_k_without_any_score_is_a_random_choice() -> None:
    assert chosen_at_k([None] * 4, 3) == pytest.approx([0.25] * 4)


def test_best_of_k_is_exact_for_many_samples() -> None:
    share = chosen_at_k([float(i) for i in range(400)], 200)
    assert share[-1] == pytest.approx(0.5)
    assert share.sum() == pytest.approx(1.0)


def test_best_of_more_than_there_are_and_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 samples"):
        chosen_at_k([1.0, 2.0], 3)
    with pytest.raises(ValueError, match="not a number"):
        chosen_at_k([1.0, float("nan")], 1)


def vote_of(ballots: list[tuple[str | None, bool, float]]) -> float:
    """Hold one weighted vote by brute force."""
    sums: dict[str, float] = {}
    for answer, good, weight in ballots:
        name = "right" if good else answer
        if name is not None:
            sums[name] = sums.get(name, 0.0) + weight
    winners = [name for name, total in sums.items() if total == max(sums.values())]
    return ("right" in winners) / len(winners) if winners else 0.0


# Weights whose sums are exact, so that brute force sees the same ties.
BALLOTS = st.lists(
    st.tuples(st.sampled_from([None, "3", "4", "5"]), st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 2.0])),
    min_size=1,
    max_size=7,
)


@given(ballots=BALLOTS, data=st.data())
def test_a_vote_is_the_mean_over_all_subsets(
    ballots: list[tuple[str | None, bool, float]], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(ballots)))
    answers, is_correct, weights = (list(column) for column in zip(*ballots, strict=True))
    subsets = list(combinations(ballots, k))
    expected = sum(vote_of(list(subset)) for subset in subsets) / len(subsets)
    assert vote_at_k(answers, is_correct, weights, k) == pytest.approx(expected)


@given(ballots=BALLOTS)
def test_a_vote_of_all_with_equal_weights_is_the_majority(ballots: list[tuple[str | None, bool, float]]) -> None:
    answers, is_correct, _ = (list(column) for column in zip(*ballots, strict=True))
    n = len(ballots)
    assert vote_at_k(answers, is_correct, [1.0] * n, n) == pytest.approx(majority_at_k(answers, is_correct, n))


def test_a_vote_over_too_many_subsets_is_estimated_from_random_ones() -> None:
    """One right of 20: in a subset of 10 it ties with nine other answers whenever it is there."""
    answers, is_correct = [str(i) for i in range(20)], [True] + [False] * 19
    assert comb(20, 10) > SUBSETS
    assert vote_at_k(answers, is_correct, [1.0] * 20, 10) == pytest.approx(0.05, abs=0.005)
    weights = [2.0] + [1.0] * 19
    assert vote_at_k(answers, is_correct, weights, 10) == pytest.approx(0.5, abs=0.05)


def test_equal_sums_tie_whatever_their_last_bits() -> None:
    assert 0.1 + 0.2 != 0.3
    assert vote_at_k(["a", "a", "b"], [True, True, False], [0.1, 0.2, 0.3], 3) == 0.5


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        vote_at_k(["1"], [True], [-1.0], 1)


@pytest.mark.full
def test_the_luck_of_training_seeds_is_in_an_interval_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_rft.statistics.RESAMPLES", 300)
    rng = np.random.default_rng(0)
    found = {"problems": 0, "both": 0}
    for _ in range(200):
        # Two ways to train that are equally good, three seeds each: a seed moves all of its model's 300 problems.
        difficulty_P = rng.normal(0, 0.3, 300)
        ways = [difficulty_P + rng.normal(0, 0.05, (3, 1)) + rng.normal(0, 0.3, (3, 300)) for _ in range(2)]
        over_problems, over_both = paired(ways[0].mean(axis=0), ways[1].mean(axis=0)), crossed(*ways)
        assert over_both.value == pytest.approx(over_problems.value)
        found["problems"] += over_problems.low <= 0 <= over_problems.high
        found["both"] += over_both.low <= 0 <= over_both.high
    assert found["problems"] < 120  # of 190 that 95% would be
    assert found["both"] > 170


def test_one_seed_fewer_is_drawn_than_there_are() -> None:
    """Five drawn of these five would give 1.8: too narrow by the factor that dividing by n instead of n - 1 makes."""
    seeds_S_P = np.repeat(np.array([[-3.0], [-1.0], [0.0], [1.0], [3.0]]), 50, axis=1)
    found = crossed(seeds_S_P, np.zeros((1, 50)))
    assert (found.low, found.high) == (-2.0, 2.0)


def test_of_one_seed_an_interval_knows_the_problems_only() -> None:
    rng = np.random.default_rng(1)
    after, before = rng.random((1, 200)), rng.random((1, 200))
    over_both, over_problems = crossed(after, before), paired(after[0], before[0])
    assert over_both.low == pytest.approx(over_problems.low, abs=0.01)
    assert over_both.high == pytest.approx(over_problems.high, abs=0.01)
    with pytest.raises(ValueError, match="the same problems"):
        crossed(after, before[:, :50])


def test_the_bound_of_the_drift_starts_at_none() -> None:
    assert kl_of_best_of_k(1) == 0.0
    assert kl_of_best_of_k(16) == pytest.approx(np.log(16) - 15 / 16)
