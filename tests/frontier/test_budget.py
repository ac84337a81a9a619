from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_rft.frontier.budget import Adaptive, Budget, FixedK, Prop2Diff, Uniform
from star_rft.frontier.counts import ProblemCounts
from star_rft.statistics import Ints
from tests.frontier.problem_counts import counts

MAX_TOKENS = 50
PLANS: list[Budget] = [
    FixedK(6),
    Uniform(target=3, most=20),
    Prop2Diff(target=6, most=20),
    Adaptive(target=3, most=20),
    Adaptive(target=3, most=20, worth=0.0, first=2.0),
]


class Prompts:
    """Prompts with a pass rate and a number of equally likely solution paths each, sampled as they are asked."""

    def __init__(self, rates: list[float], paths: list[int], seed: int = 0) -> None:
        self.rates, self.paths, self.rng = rates, paths, np.random.default_rng(seed)
        self.drawn: list[list[int | None]] = [[] for _ in rates]
        self.tokens_P = np.zeros(len(rates), dtype=np.int64)

    def draw(self, more_P: Ints) -> None:
        for problem, more in enumerate(more_P):
            for _ in range(int(more)):
                is_correct = self.rng.random() < self.rates[problem]
                self.drawn[problem].append(int(self.rng.integers(self.paths[problem])) if is_correct else None)
                self.tokens_P[problem] += self.rng.integers(1, MAX_TOKENS + 1)

    def seen(self) -> ProblemCounts:
        correct = [sum(path is not None for path in drawn) for drawn in self.drawn]
        distinct = [len(set(drawn) - {None}) for drawn in self.drawn]
        return counts([len(drawn) for drawn in self.drawn], correct, distinct, tokens_P=self.tokens_P.copy())

    def sample_with(self, plan: Budget, tokens: int | None = None, waves: int = 100) -> list[Ints]:
        """Draw wave after wave until the plan allots nothing."""
        allotted: list[Ints] = []
        for _ in range(waves):
            left = None if tokens is None else tokens - int(self.tokens_P.sum())
            more_P = plan.allot(self.seen(), tokens_left=left, max_tokens=MAX_TOKENS)
            assert more_P.min() >= 0
            if left is not None:
                assert more_P.sum() * MAX_TOKENS <= left
            if not more_P.any():
                return allotted
            allotted.append(more_P)
            self.draw(more_P)
        raise AssertionError(f"the plan had not finished after {waves} waves")


@given(
    plan=st.sampled_from(PLANS),
    rates=st.lists(st.sampled_from([0.0, 0.05, 0.5, 1.0]), min_size=1, max_size=12),
    paths=st.integers(1, 5),
    tokens=st.integers(0, 8000),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_a_token_budget_is_never_exceeded_whatever_the_problems(
    plan: Budget, rates: list[float], paths: int, tokens: int, seed: int
) -> None:
    problems = Prompts(rates, [paths] * len(rates), seed)
    problems.sample_with(plan, tokens)
    assert problems.tokens_P.sum() <= tokens


@pytest.mark.parametrize("plan", PLANS)
def test_a_short_budget_is_used_until_no_request_is_certain_to_fit(plan: Budget) -> None:
    problems = Prompts([0.3] * 10, [50] * 10)
    problems.sample_with(plan, tokens=1000)
    assert 1000 - problems.tokens_P.sum() < MAX_TOKENS


def test_fixed_k_gives_every_problem_k_in_one_wave_and_then_nothing() -> None:
    problems = Prompts([0.0, 0.5, 1.0], [3, 3, 3])
    assert [list(wave) for wave in problems.sample_with(FixedK(7))] == [[7, 7, 7]]


def test_fixed_k_tops_up_what_a_larger_k_lacks() -> None:
    more_P = FixedK(8).allot(counts([8, 5, 0], [1, 1, 0]), tokens_left=None, max_tokens=MAX_TOKENS)
    assert list(more_P) == [0, 3, 8]


@pytest.mark.parametrize("plan", PLANS[1:])
def test_every_problem_gets_its_probe_first(plan: Budget) -> None:
    first_P = plan.allot(counts([0] * 5, [0] * 5), tokens_left=None, max_tokens=MAX_TOKENS)
    assert list(first_P) == [4] * 5


@pytest.mark.parametrize("plan", PLANS[1:])
def test_a_budget_too_short_for_all_probes_pays_for_whole_ones_in_the_given_order(plan: Budget) -> None:
    seen = counts([0] * 4, [0] * 4, order_P=np.array([3, 1, 0, 2]))
    assert list(plan.allot(seen, tokens_left=10 * MAX_TOKENS, max_tokens=MAX_TOKENS)) == [0, 4, 4, 2]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("tokens_left", [None, 2000, 300])
def test_the_order_of_the_problems_changes_nothing(plan: Budget, tokens_left: int | None) -> None:
    rng = np.random.default_rng(1)
    samples_P = rng.integers(4, 12, 40)
    correct_P = rng.binomial(samples_P, rng.random(40))
    distinct_P = np.minimum(correct_P, rng.integers(1, 4, 40))
    past_P = rng.random(40) * 8
    seen = counts(
        list(samples_P),
        list(correct_P),
        list(distinct_P),
        tokens_P=samples_P * rng.integers(5, 50, 40),
        past_samples_P=past_P,
        past_correct_P=past_P * 0.5,
        order_P=rng.permutation(40),
    )
    shuffled = rng.permutation(40)
    other = ProblemCounts(**{name: getattr(seen, name)[shuffled] for name in ProblemCounts.__slots__})
    allotted_P = plan.allot(seen, tokens_left=tokens_left, max_tokens=MAX_TOKENS)
    assert allotted_P.any()
    assert list(plan.allot(other, tokens_left=tokens_left, max_tokens=MAX_TOKENS)) == list(allotted_P[shuffled])
    assert list(plan.allot(seen, tokens_left=tokens_left, max_tokens=MAX_TOKENS)) == list(allotted_P)


def test_arrays_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry a problem"):
        counts([1, 2], [0, 0], order_P=np.arange(3))


# Adaptive


def test_a_problem_stops_at_its_cap_of_distinct_correct_traces() -> None:
    problems = Prompts([0.9] * 20 + [0.2] * 20, [1000] * 40)
    problems.sample_with(Adaptive(target=4, most=200, worth=0.0))
    seen = problems.seen()
    assert seen.distinct_P.min() == 4
    # A wave is at most half of what came before it, so no problem has half as many again as it had to.
    needed_P = [
        next(n for n in range(1, len(drawn) + 1) if len(set(drawn[:n]) - {None}) == 4) for drawn in problems.drawn
    ]
    assert (seen.samples_P <= np.maximum(6, np.ceil(1.5 * np.array(needed_P)))).all()


def test_problems_that_are_unsolved_go_on_to_most() -> None:
    problems = Prompts([0.0] * 5 + [0.8] * 15, [9] * 20)
    waves = problems.sample_with(Adaptive(target=4, most=64))
    samples_P = problems.seen().samples_P
    assert list(samples_P[:5]) == [64] * 5
    assert samples_P[5:].max() < 64
    assert len(waves) < 20


def test_a_problem_that_always_solves_the_same_way_is_left_alone() -> None:
    problems = Prompts([0.9] * 20, [1] * 20)
    problems.sample_with(Adaptive(target=4, most=1000))
    assert problems.seen().samples_P.max() < 200


def test_a_higher_worth_stops_earlier() -> None:
    totals = []
    for worth in (0.0, 0.01, 0.1):
        problems = Prompts([0.7] * 30, [3] * 30)
        problems.sample_with(Adaptive(target=4, most=100, worth=worth))
        totals.append(int(problems.seen().samples_P.sum()))
    assert totals[0] == 30 * 100 > totals[1] > totals[2]


def test_what_earlier_rounds_solved_gets_one_sample_unless_that_fails() -> None:
    past: dict[str, Any] = {"past_samples_P": np.array([16.0, 16.0]), "past_correct_P": np.array([16.0, 4.0])}
    plan = Adaptive(target=4, most=32)

    def allotted(samples: list[int], correct: list[int]) -> list[int]:
        return list(plan.allot(counts(samples, correct, **past), tokens_left=None, max_tokens=MAX_TOKENS))

    assert allotted([0, 0], [0, 0]) == [1, 4]
    assert allotted([1, 4], [1, 4]) == [0, 0]
    assert allotted([1, 4], [0, 4]) == [3, 0]
    assert Adaptive(target=4, most=32, solved_at=None).allot(
        counts([0, 0], [0, 0], **past), tokens_left=None, max_tokens=MAX_TOKENS
    ).tolist() == [4, 4]


def test_traces_of_earlier_rounds_fill_the_cap_where_selection_uses_all() -> None:
    seen = counts([0, 0], [0, 0], distinct_P=np.array([4, 1]), distinct_of_P=np.array([9, 2]))
    plan = Adaptive(target=4, most=32)
    assert list(plan.allot(seen, tokens_left=None, max_tokens=MAX_TOKENS)) == [1, 4]


@pytest.mark.parametrize("plan", PLANS[1:])
def test_a_held_out_problem_gets_its_probe_and_no_more(plan: Budget) -> None:
    held_out: dict[str, Any] = {"is_quarantined_P": np.array([True, False])}
    first = plan.allot(counts([0, 0], [0, 0], **held_out), tokens_left=None, max_tokens=MAX_TOKENS)
    then = plan.allot(counts([4, 4], [0, 0], **held_out), tokens_left=None, max_tokens=MAX_TOKENS)
    assert list(first) == [4, 4]
    assert then[0] == 0
    assert then[1] > 0


def test_where_tokens_are_short_the_likelier_correct_trace_is_sampled_first() -> None:
    seen = counts([16] * 4, [1, 8, 16, 8], [1, 3, 1, 1])
    allotted_P = Adaptive(target=4, most=64).allot(seen, tokens_left=4 * MAX_TOKENS, max_tokens=MAX_TOKENS)
    assert list(np.flatnonzero(allotted_P)) == [1]


def test_among_equals_the_shorter_solutions_are_sampled_first() -> None:
    seen = counts([16] * 3, [8] * 3, [2] * 3, tokens_P=np.array([600, 300, 600]))
    allotted_P = Adaptive(target=4, most=64).allot(seen, tokens_left=2 * MAX_TOKENS, max_tokens=MAX_TOKENS)
    assert list(allotted_P) == [0, 2, 0]


def test_a_problem_without_a_correct_sample_is_owed_what_an_equal_split_would_give_it() -> None:
    """However hopeless beside the others: what is left is 64 samples, so 8 more for each of the 8."""
    seen = counts([8] * 8, [0] + [8] * 7, [0] + [3] * 7)
    allotted_P = Adaptive(target=4, most=64).allot(seen, tokens_left=640, max_tokens=10)
    assert allotted_P[0] > 0
    spent = counts([48] + [8] * 7, [0] + [8] * 7, [0] + [3] * 7)
    assert Adaptive(target=4, most=64).allot(spent, tokens_left=60, max_tokens=10)[0] == 0


@pytest.mark.parametrize("length", range(21, 61))
def test_more_owed_than_there_is_left_is_still_given_out(length: int) -> None:
    """Their price, rounded, was once above every value: nothing was worth it, and the round ended."""
    seen = counts([4] * 20, [0] * 19 + [2], tokens_P=np.full(20, length))
    allotted_P = Adaptive(target=4, most=256, first=1.0).allot(seen, tokens_left=10_000, max_tokens=MAX_TOKENS)
    assert allotted_P[:19].all()


def test_adaptive_covers_no_less_and_finds_more_correct_traces_than_fixed_k_for_its_tokens() -> None:
    rng = np.random.default_rng(3)
    rates, paths = list(rng.beta(0.8, 0.8, 300)), list(rng.integers(1, 40, 300))
    fixed = Prompts(rates, paths, seed=4)
    fixed.sample_with(FixedK(16))
    adaptive = Prompts(rates, paths, seed=4)
    adaptive.sample_with(Adaptive(target=4, most=64, worth=0.0), tokens=int(fixed.tokens_P.sum()))

    def correct_traces(prompts: Prompts) -> Ints:
        return np.minimum(prompts.seen().distinct_P, 4)

    assert correct_traces(adaptive).sum() > 1.05 * correct_traces(fixed).sum()
    assert (correct_traces(adaptive) > 0).sum() >= (correct_traces(fixed) > 0).sum()


# DART


def test_uniform_samples_until_the_target_is_reached_or_most_is_drawn() -> None:
    problems = Prompts([1.0, 0.5, 0.0], [50, 50, 50])
    problems.sample_with(Uniform(target=10, most=60))
    seen = problems.seen()
    assert seen.correct_P[0] >= 10
    assert seen.correct_P[1] >= 10
    assert seen.samples_P[0] < 20
    assert seen.samples_P[2] == 60


def test_prop2diff_wants_correct_ones_in_proportion_to_the_fail_rate_and_at_least_one() -> None:
    problems = Prompts([1.0, 0.75, 0.25], [50] * 3, seed=2)
    problems.sample_with(Prop2Diff(target=40, most=400))
    seen = problems.seen()
    assert seen.samples_P[0] == 4  # the probe was enough
    fail_rate_P = 1 - seen.correct_P / seen.samples_P
    assert (seen.correct_P >= np.rint(40 * fail_rate_P)).all()
    assert seen.correct_P[2] > 2 * seen.correct_P[1]


# What is believed
