"""Budgets: how many more samples each problem draws in the next wave, from counts alone.

A wave is drawn and verified whole; then the budget is called again with the new counts. Nothing here is random and
nothing depends on the order of the problems, so the same counts give the same wave. Letters of axes are those of
`star_rft.statistics`; H are the bins of a histogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from star_rft.frontier.counts import ProblemCounts
from star_rft.frontier.gains import gain_curves, mean_lengths, pass_rate_prior
from star_rft.statistics import Flags, Floats, Ints

# Where the tokens left pay for fewer samples than this share of all so far, the round ends: starting an engine costs
# more.
LEAST_WAVE = 0.005
# A wave adds at most this share to what a problem has drawn.
GROWTH = 0.5
# Bins of the histogram that takes the place of a sort.
PRICE_BINS = 4096


class Budget(Protocol):
    """Decides how many more samples each problem draws in the next wave of a round."""

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return how many more samples each problem draws now; all zeros: the round's sampling is finished.

        Args:
            counts: What has been drawn so far.
            tokens_left: Tokens that the round may still sample; None: no limit. As a sample can take `max_tokens`, a
                wave holds at most `tokens_left // max_tokens` samples. Tokens that it leaves are there for the next.
            max_tokens: Most tokens of a sample.

        Returns:
            allotted_P.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedK:
    """`n` samples for every problem. Where tokens are short, some problems get all `n` and others none."""

    n: int

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return what each problem lacks of `n` samples; see `Budget`."""
        return _probe(counts, np.full(counts.samples_P.shape, self.n), tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Uniform:
    """DART's uniform strategy (arXiv 2407.13690): every problem gets `target` correct samples.

    `most` bounds the samples of a problem, and `probe` is how many it draws first.
    """

    target: int
    most: int
    probe: int = 4

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return the next wave; see `Budget`."""
        target_P = np.full(counts.samples_P.shape, self.target)
        return _until(counts, target_P, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Prop2Diff:
    """DART's prop2diff (arXiv 2407.13690): `target` times the fail rate of correct samples, at least 1.

    The fail rate is that of all its samples so far, as the selection rule `balance` computes it, so it gets more exact
    with every wave. `most` bounds the samples of a problem, and `probe` is how many it draws first.
    """

    target: int
    most: int
    probe: int = 4

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return the next wave; see `Budget`."""
        samples_P = counts.samples_P + counts.past_samples_P
        correct_P = counts.correct_P + counts.past_correct_P
        fail_rate_P = 1.0 - correct_P / np.maximum(samples_P, 1e-9)
        target_P = np.maximum(1, np.rint(self.target * fail_rate_P)).astype(np.int64)
        return _until(counts, target_P, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Gives the next samples to the problems where a token is expected to bring most new distinct correct traces.

    A problem draws `probe` samples first. One that earlier rounds solved at a rate of `solved_at` or more, or that has
    its `target` from them, draws one sample, and more only if that one fails. Then a problem is sampled until it has
    `target` distinct correct traces, has drawn `most` samples, or is expected to bring fewer than `worth` new ones a
    sample of mean length. A problem without a correct sample is always sampled up to `most`, as far as tokens reach.

    Where tokens are short, a problem without a correct sample still gets what an equal split of all tokens among the
    problems would give it. So hard problems do not pay for easy ones. The other tokens go to the highest expected gain
    a token, where a problem's first correct trace counts as 1 + `first`.
    """

    target: int
    most: int
    probe: int = 4
    worth: float = 0.01
    first: float = 0.0
    solved_at: float | None = 0.9

    def allot(self, counts: ProblemCounts, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return the next wave; see `Budget`."""
        is_solved_P = self._is_solved(counts)
        probe_P = np.where(is_solved_P | (counts.distinct_P >= self.target), 1, min(self.probe, self.most))
        allotted_P = _probe(counts, probe_P, tokens_left, max_tokens)
        is_open_P = (
            (counts.samples_P < self.most) & (counts.distinct_P < self.target) & ~counts.is_quarantined_P & ~is_solved_P
        )
        if (counts.samples_P < probe_P).any() or not is_open_P.any() or _is_spent(counts, tokens_left, max_tokens):
            return allotted_P
        # The gain curves of the open problems: a step of several samples is taken or left as a whole.
        open_P = np.flatnonzero(is_open_P)
        gains, state_P = gain_curves(counts, open_P, cap=self.target, most=self.most, first=self.first)
        every_length_P = mean_lengths(counts)
        length_P, samples_P = every_length_P[open_P], counts.samples_P[open_P]
        value_P_L = (gains.rate_U_L[state_P] / length_P[:, None]).astype(np.float32)
        is_first_P = counts.distinct_P[open_P] == 0
        if tokens_left is not None:
            # An equal split: each problem gets the same number of samples, of its own mean length. Steps below that, of
            # problems without a correct sample, come before all others.
            share = (counts.tokens_P.sum() + tokens_left) / every_length_P.sum()
            is_owed_P_L = is_first_P[:, None] & (samples_P[:, None] + gains.start_L < share)
            value_P_L[is_owed_P_L] = value_P_L.max()
        # Samples of each step that `most` leaves room for.
        steps_P_L = np.clip((self.most - samples_P)[:, None] - gains.start_L, 0, gains.size_L)
        # `worth` is the gain of a sample of mean length, `least` that of a token.
        least = self.worth * counts.samples_P.sum() / max(1, counts.tokens_P.sum())
        is_wanted_P_L = _best(value_P_L, np.ceil(steps_P_L * length_P[:, None]), tokens_left)
        is_wanted_P_L &= (value_P_L >= least) | is_first_P[:, None]
        wanted_P = (steps_P_L * is_wanted_P_L).sum(axis=1)
        wave_P = _wave(samples_P, np.minimum(wanted_P, gains.needed_U[state_P]), self.most)
        wave_P[wanted_P == 0] = 0
        allotted_P[open_P] = _afford(
            wave_P, value_P_L[:, 0].astype(np.float64), counts.order_P[open_P], tokens_left, max_tokens
        )
        return allotted_P

    def _is_solved(self, counts: ProblemCounts) -> Flags:
        """Return which problems earlier rounds solved at `solved_at` or more, and nothing has failed in this round.

        The rate is (correct + 1/2) / (samples + 1), the posterior mean under Jeffreys' prior.
        """
        if self.solved_at is None:
            return np.zeros(counts.samples_P.shape, dtype=bool)
        rate_P = (counts.past_correct_P + 0.5) / (counts.past_samples_P + 1.0)
        is_solved_P: Flags = (rate_P >= self.solved_at) & (counts.correct_P == counts.samples_P)
        return is_solved_P


# Sizes of waves


def _probe(counts: ProblemCounts, probe_P: Ints, tokens_left: int | None, max_tokens: int) -> Ints:
    """Return what each problem lacks of its first samples; where tokens are short, whole problems in `order_P`."""
    missing_P = np.maximum(0, probe_P - counts.samples_P)
    return _afford(missing_P, np.zeros(missing_P.shape), counts.order_P, tokens_left, max_tokens)


def _until(
    counts: ProblemCounts, target_P: Ints, most: int, probe: int, tokens_left: int | None, max_tokens: int
) -> Ints:
    """Return a wave towards `target_P` correct samples; where tokens are short, problems with fewest samples first."""
    probe_P = np.full(counts.samples_P.shape, min(probe, most))
    allotted_P = _probe(counts, probe_P, tokens_left, max_tokens)
    if (counts.samples_P < probe_P).any() or _is_spent(counts, tokens_left, max_tokens):
        return allotted_P
    a, b = pass_rate_prior(counts)
    rate_P = (counts.past_correct_P + counts.correct_P + a) / (counts.past_samples_P + counts.samples_P + a + b)
    missing_P = np.maximum(0, target_P - counts.correct_P)
    wave_P = _wave(counts.samples_P, missing_P / rate_P, most)
    wave_P[(missing_P == 0) | counts.is_quarantined_P] = 0
    return _afford(wave_P, -counts.samples_P.astype(np.float64), counts.order_P, tokens_left, max_tokens)


def _wave(samples_P: Ints, needed_P: Floats | Ints, most: int) -> Ints:
    """Limit what a problem needs to between 1/8 and `GROWTH` of what it has drawn, and to what `most` leaves.

    The upper limit bounds the samples that turn out not to be needed, the lower one the number of waves: larger waves
    cost tokens, smaller ones time.
    """
    wished_P = np.clip(np.ceil(needed_P), np.ceil(samples_P / 8), np.ceil(samples_P * GROWTH))
    wave_P: Ints = np.minimum(wished_P, np.maximum(0, most - samples_P)).astype(np.int64)
    return wave_P


def _is_spent(counts: ProblemCounts, tokens_left: int | None, max_tokens: int) -> bool:
    """Return whether the tokens left pay for no wave of a useful size, see `LEAST_WAVE`."""
    return tokens_left is not None and tokens_left // max_tokens < max(1.0, LEAST_WAVE * counts.samples_P.sum())


def _afford(wanted_P: Ints, value_P: Floats, order_P: Ints, tokens_left: int | None, max_tokens: int) -> Ints:
    """Cut a wave to what the tokens pay for at `max_tokens` a sample: highest value first, equal ones by `order_P`."""
    if tokens_left is None or int(wanted_P.sum()) * max_tokens <= tokens_left:
        return wanted_P
    given_P = np.zeros_like(wanted_P)
    asking_P = np.flatnonzero(wanted_P)
    asking_P = asking_P[np.lexsort((order_P[asking_P], -value_P[asking_P]))]
    wanted_P = wanted_P[asking_P]
    before_P = wanted_P.cumsum() - wanted_P
    given_P[asking_P] = np.clip(max(0, tokens_left) // max_tokens - before_P, 0, wanted_P)
    return given_P


def _best(value_P_L: npt.NDArray[np.float32], tokens_P_L: Floats, tokens_left: int | None) -> Flags:
    """Return which steps to take: those of highest value whose expected tokens sum to what is left.

    A histogram of log values is used in place of a sort, for speed. Steps of the bin at the limit are all left, unless
    it is the highest bin: then they are all taken.
    """
    if tokens_left is None or tokens_P_L.sum() <= tokens_left:
        return np.ones(value_P_L.shape, dtype=bool)
    log_P_L = np.log(np.maximum(value_P_L, 1e-12))
    low, high = float(log_P_L.min()), float(log_P_L.max())
    bin_P_L = ((log_P_L - low) * ((PRICE_BINS - 1) / max(high - low, 1e-9))).astype(np.int64)
    # Whole tokens, so that the sums do not depend on the order of the problems.
    tokens_H = np.bincount(bin_P_L.ravel(), weights=tokens_P_L.ravel())
    from_above_H = tokens_H[::-1].cumsum()[::-1]
    lowest = min(int((from_above_H > tokens_left).sum()), tokens_H.size - 1)
    is_best_P_L: Flags = bin_P_L >= lowest
    return is_best_P_L
