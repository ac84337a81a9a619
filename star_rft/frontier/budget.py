"""Budgets: how many more samples each problem draws in the next wave, from counts alone.

A wave is drawn and verified whole; the planner then sees the new counts and is asked again. Nothing here is random and
nothing depends on the order of the problems, so the same counts give the same wave. Arrays carry their axes: N
problems, S distinct states of belief, T concentrations, J steps of a gain curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from star_rft.frontier.counts import ProblemCounts
from star_rft.frontier.gains import gain_curves, mean_lengths, pass_rate_prior
from star_rft.statistics import Flags, Floats, Ints

# A wave that the token budget cuts below this share of all samples so far is not worth waking an engine for.
LEAST_WAVE = 0.005
# A wave adds at most this share to what a problem has drawn.
GROWTH = 0.5
# Bins of the histogram that takes the place of a sort.
PRICE_BINS = 4096


class Budget(Protocol):
    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return how many more samples each problem draws now; all zeros: the round's sampling is finished.

        A sample can take up to `max_tokens`, so a wave holds at most `tokens_left // max_tokens` of them; what a wave
        leaves of that is there for the next. `tokens_left` None is no limit.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedK:
    """`n` samples for every problem. Where tokens are short, whole problems in the given order."""

    n: int

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        return _probe(counts, np.full(counts.samples_N.shape, self.n), tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Uniform:
    """DART's uniform strategy (2407.13690): sample a problem until it has `target` correct, at most `most` samples."""

    target: int
    most: int
    probe: int = 4

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        target_N = np.full(counts.samples_N.shape, self.target)
        return _until(counts, target_N, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Prop2Diff:
    """DART's prop2diff (2407.13690): sample a problem until it has `target` x its fail rate correct, at least one.

    The fail rate is that of all its samples so far, as the rule `balance` counts it, so it sharpens with every wave.
    """

    target: int
    most: int
    probe: int = 4

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        samples_N = counts.samples_N + counts.past_samples_N
        correct_N = counts.correct_N + counts.past_correct_N
        fail_rate_N = 1.0 - correct_N / np.maximum(samples_N, 1e-9)
        target_N = np.maximum(1, np.rint(self.target * fail_rate_N)).astype(np.int64)
        return _until(counts, target_N, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Samples where the next distinct correct trace is likeliest for its tokens.

    A problem draws `probe` samples first; one that earlier rounds solved at a rate of `solved_at` or more, or that has
    its correct traces from them, draws a single one, and goes on only if that fails. A problem goes on until it has
    `target` distinct correct traces, has drawn `most` samples, or is not `worth` it: fewer new correct traces are
    expected than that a sample of mean length. One without a correct sample always goes on to `most` unless tokens run
    out.

    Where tokens are short, a problem without a correct sample may draw what an equal split among all problems would
    give it, so coverage is not bought with fewer samples at the hard; the rest goes to the highest expected gain a
    token, for which a problem's first correct trace counts as `first` more.
    """

    target: int
    most: int
    probe: int = 4
    worth: float = 0.01
    first: float = 0.0
    solved_at: float | None = 0.9

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        is_solved_N = self._is_solved(counts)
        probe_N = np.where(is_solved_N | (counts.distinct_N >= self.target), 1, min(self.probe, self.most))
        allotted_N = _probe(counts, probe_N, tokens_left, max_tokens)
        is_open_N = (
            (counts.samples_N < self.most) & (counts.distinct_N < self.target) & ~counts.is_quarantined_N & ~is_solved_N
        )
        if (counts.samples_N < probe_N).any() or not is_open_N.any() or _is_spent(counts, tokens_left, max_tokens):
            return allotted_N
        open_N = np.flatnonzero(is_open_N)
        gains, state_N = gain_curves(counts, open_N, cap=self.target, most=self.most, first=self.first)
        every_length_N = mean_lengths(counts)
        length_N, samples_N = every_length_N[open_N], counts.samples_N[open_N]
        value_N_J = (gains.rate_S_J[state_N] / length_N[:, None]).astype(np.float32)
        is_first_N = counts.distinct_N[open_N] == 0
        if tokens_left is not None:
            share = (counts.tokens_N.sum() + tokens_left) / every_length_N.sum()
            is_owed_N_J = is_first_N[:, None] & (samples_N[:, None] + gains.start_J < share)
            value_N_J[is_owed_N_J] = value_N_J.max()
        steps_N_J = np.clip((self.most - samples_N)[:, None] - gains.start_J, 0, gains.size_J)
        least = self.worth * counts.samples_N.sum() / max(1, counts.tokens_N.sum())
        is_wanted_N_J = _best(value_N_J, np.ceil(steps_N_J * length_N[:, None]), tokens_left)
        is_wanted_N_J &= (value_N_J >= least) | is_first_N[:, None]
        wanted_N = (steps_N_J * is_wanted_N_J).sum(axis=1)
        wave_N = _wave(samples_N, np.minimum(wanted_N, gains.needed_S[state_N]), self.most)
        wave_N[wanted_N == 0] = 0
        allotted_N[open_N] = _afford(
            wave_N, value_N_J[:, 0].astype(np.float64), counts.order_N[open_N], tokens_left, max_tokens
        )
        return allotted_N

    def _is_solved(self, counts: ProblemCounts) -> Flags:
        """By earlier rounds, with Jeffreys' half a sample of each kind, and nothing has failed in this one."""
        if self.solved_at is None:
            return np.zeros(counts.samples_N.shape, dtype=bool)
        rate_N = (counts.past_correct_N + 0.5) / (counts.past_samples_N + 1.0)
        is_solved_N: Flags = (rate_N >= self.solved_at) & (counts.correct_N == counts.samples_N)
        return is_solved_N


# What a wave holds


def _probe(counts: ProblemCounts, probe_N: Ints, tokens_left: int | None, max_tokens: int) -> Ints:
    """What is missing of a first look at every problem; where tokens are short, whole problems by their order."""
    missing_N = np.maximum(0, probe_N - counts.samples_N)
    return _afford(missing_N, np.zeros(missing_N.shape), counts.order_N, tokens_left, max_tokens)


def _until(
    counts: ProblemCounts, target_N: Ints, most: int, probe: int, tokens_left: int | None, max_tokens: int
) -> Ints:
    """Sample until each problem has its target of correct ones; those with the fewest samples come first."""
    probe_N = np.full(counts.samples_N.shape, min(probe, most))
    allotted_N = _probe(counts, probe_N, tokens_left, max_tokens)
    if (counts.samples_N < probe_N).any() or _is_spent(counts, tokens_left, max_tokens):
        return allotted_N
    a, b = pass_rate_prior(counts)
    rate_N = (counts.past_correct_N + counts.correct_N + a) / (counts.past_samples_N + counts.samples_N + a + b)
    missing_N = np.maximum(0, target_N - counts.correct_N)
    wave_N = _wave(counts.samples_N, missing_N / rate_N, most)
    wave_N[(missing_N == 0) | counts.is_quarantined_N] = 0
    return _afford(wave_N, -counts.samples_N.astype(np.float64), counts.order_N, tokens_left, max_tokens)


def _wave(samples_N: Ints, needed_N: Floats | Ints, most: int) -> Ints:
    """Round what a problem needs to what one wave gives it: an eighth to a half of what it has drawn so far.

    So a problem that turns out easy has drawn at most half as much again as it had to, and one that goes on to `most`
    does so in few waves. Larger waves cost tokens, smaller ones time.
    """
    wished_N = np.clip(np.ceil(needed_N), np.ceil(samples_N / 8), np.ceil(samples_N * GROWTH))
    wave_N: Ints = np.minimum(wished_N, np.maximum(0, most - samples_N)).astype(np.int64)
    return wave_N


def _is_spent(counts: ProblemCounts, tokens_left: int | None, max_tokens: int) -> bool:
    return tokens_left is not None and tokens_left // max_tokens < max(1.0, LEAST_WAVE * counts.samples_N.sum())


def _afford(wanted_N: Ints, value_N: Floats, order_N: Ints, tokens_left: int | None, max_tokens: int) -> Ints:
    """Cut a wave to what the tokens pay for at `max_tokens` a sample: the highest value first, then by order."""
    if tokens_left is None or int(wanted_N.sum()) * max_tokens <= tokens_left:
        return wanted_N
    given_N = np.zeros_like(wanted_N)
    asking_N = np.flatnonzero(wanted_N)
    asking_N = asking_N[np.lexsort((order_N[asking_N], -value_N[asking_N]))]
    wanted_N = wanted_N[asking_N]
    before_N = wanted_N.cumsum() - wanted_N
    given_N[asking_N] = np.clip(max(0, tokens_left) // max_tokens - before_N, 0, wanted_N)
    return given_N


def _best(value_N_J: npt.NDArray[np.float32], tokens_N_J: Floats, tokens_left: int | None) -> Flags:
    """Return which steps to take so that, highest value first, their expected tokens use up what is left.

    A histogram of log values takes the place of a sort; steps that share its last bin are all taken or, unless it is
    the highest, all left.
    """
    if tokens_left is None or tokens_N_J.sum() <= tokens_left:
        return np.ones(value_N_J.shape, dtype=bool)
    log_N_J = np.log(np.maximum(value_N_J, 1e-12))
    low, high = float(log_N_J.min()), float(log_N_J.max())
    bin_N_J = ((log_N_J - low) * ((PRICE_BINS - 1) / max(high - low, 1e-9))).astype(np.int64)
    # Whole tokens, so that the sums do not depend on the order of the problems.
    tokens_B = np.bincount(bin_N_J.ravel(), weights=tokens_N_J.ravel())
    from_above_B = tokens_B[::-1].cumsum()[::-1]
    lowest = min(int((from_above_B > tokens_left).sum()), tokens_B.size - 1)
    is_best_N_J: Flags = bin_N_J >= lowest
    return is_best_N_J
