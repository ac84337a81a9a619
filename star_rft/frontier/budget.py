"""How many more samples each prompt draws: asked between waves, from counts alone, until it allots nothing.

A wave is drawn and verified whole; the planner then sees the new counts and is asked again. Nothing here is random and
nothing depends on the order of the prompts, so the same counts give the same wave. Arrays carry their axes: N prompts,
S distinct states of belief, T concentrations, J steps of a gain curve.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# A wave that the token budget cuts below this share of all samples so far is not worth waking an engine for.
LEAST_WAVE = 0.01
# A prompt's mean length counts as so many samples of the population's mean length beside its own.
LENGTH_WEIGHT = 2.0
# Discounted counts of earlier rounds are told apart to a quarter of a sample.
PAST_STEPS = 4
# Concentrations of the Chinese restaurant: from "nearly always the same trace" to "nearly always a new one".
THETA_T: Floats = np.geomspace(0.05, 50.0, 10)
PRICE_BINS = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger holds of each prompt, one entry a prompt in every array.

    `samples`, `correct` and `tokens` are this round's samples of the policy, without hints. `distinct` are the distinct
    correct traces that count towards the cap, among `distinct_of` correct ones: of this round, or of every round where
    selection uses all. `past_samples` and `past_correct` are earlier rounds', discounted. A held-out prompt (suspect
    gold) gets its probe and no more. `order` is any number a prompt, such as a hash with the run's seed: where a budget
    does not reach everyone, equals are served by it.
    """

    samples_N: Ints
    correct_N: Ints
    distinct_N: Ints
    distinct_of_N: Ints
    tokens_N: Ints
    past_samples_N: Floats
    past_correct_N: Floats
    is_held_out_N: Flags
    order_N: Ints

    def __post_init__(self) -> None:
        sizes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(sizes.values())) > 1 or self.samples_N.ndim != 1:
            raise ValueError(f"every array has one entry a prompt: {sizes}")


class Budget(Protocol):
    def allot(self, seen: Seen, *, tokens_left: int | None, max_tokens: int) -> Ints:
        """Return how many more samples each prompt draws now; all zeros: the round's sampling is finished.

        A sample can take up to `max_tokens`, so a wave holds at most `tokens_left // max_tokens` of them; what a wave
        leaves of that is there for the next. `tokens_left` None is no limit.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedK:
    """`n` samples for every prompt. Where tokens are short, whole prompts in the given order."""

    n: int

    def allot(self, seen: Seen, *, tokens_left: int | None, max_tokens: int) -> Ints:
        return _probe(seen, np.full(seen.samples_N.shape, self.n), tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Uniform:
    """DART's uniform strategy (2407.13690): sample a prompt until it has `target` correct, at most `most` samples."""

    target: int
    most: int
    probe: int = 4

    def allot(self, seen: Seen, *, tokens_left: int | None, max_tokens: int) -> Ints:
        target_N = np.full(seen.samples_N.shape, self.target)
        return _until(seen, target_N, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Prop2Diff:
    """DART's prop2diff (2407.13690): sample a prompt until it has `target` x its fail rate correct, at least one.

    The fail rate is that of all its samples so far, as the rule `balance` counts it, so it sharpens with every wave.
    """

    target: int
    most: int
    probe: int = 4

    def allot(self, seen: Seen, *, tokens_left: int | None, max_tokens: int) -> Ints:
        samples_N = seen.samples_N + seen.past_samples_N
        correct_N = seen.correct_N + seen.past_correct_N
        fail_rate_N = 1.0 - correct_N / np.maximum(samples_N, 1e-9)
        target_N = np.maximum(1, np.rint(self.target * fail_rate_N)).astype(np.int64)
        return _until(seen, target_N, self.most, self.probe, tokens_left, max_tokens)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Samples where the next distinct survivor is likeliest for its tokens.

    A prompt draws `probe` samples first; one that earlier rounds solved at a rate of `solved_at` or more draws a single
    one, and goes on only if that fails. It then goes on until it has `cap` distinct survivors, has drawn `most`
    samples, or is not `worth` it: less is expected than so many new survivors a sample of mean length. A prompt without
    a survivor always goes on to `most` unless tokens run out. Where they are short, the highest expected gain a token
    wins; a prompt's first survivor counts as `first` more.
    """

    cap: int
    most: int
    probe: int = 4
    worth: float = 0.02
    first: float = 3.0
    solved_at: float | None = 0.9

    def allot(self, seen: Seen, *, tokens_left: int | None, max_tokens: int) -> Ints:
        is_solved_N = self._is_solved(seen)
        probe_N = np.where(is_solved_N | (seen.distinct_N >= self.cap), 1, min(self.probe, self.most))
        allotted_N = _probe(seen, probe_N, tokens_left, max_tokens)
        is_open_N = (seen.samples_N < self.most) & (seen.distinct_N < self.cap) & ~seen.is_held_out_N & ~is_solved_N
        if (seen.samples_N < probe_N).any() or not is_open_N.any() or _is_spent(seen, tokens_left, max_tokens):
            return allotted_N
        open_N = np.flatnonzero(is_open_N)
        gains, state_N = gain_curves(seen, open_N, cap=self.cap, most=self.most, first=self.first)
        length_N = mean_lengths(seen)[open_N]
        value_N_J = (gains.rate_S_J[state_N] / length_N[:, None]).astype(np.float32)
        samples_N = seen.samples_N[open_N]
        steps_N_J = np.clip((self.most - samples_N)[:, None] - gains.start_J, 0, gains.size_J)
        price = _price(value_N_J, np.ceil(steps_N_J * length_N[:, None]), tokens_left)
        least = self.worth * seen.samples_N.sum() / max(1, seen.tokens_N.sum())
        at_least_N = np.where(seen.distinct_N[open_N] == 0, price, max(price, least))
        wanted_N = (steps_N_J * (value_N_J >= at_least_N[:, None])).sum(axis=1)
        wave_N = _wave(samples_N, np.minimum(wanted_N, gains.needed_S[state_N]), self.most)
        wave_N[wanted_N == 0] = 0
        allotted_N[open_N] = _afford(
            wave_N, value_N_J[:, 0].astype(np.float64), seen.order_N[open_N], tokens_left, max_tokens
        )
        return allotted_N

    def _is_solved(self, seen: Seen) -> Flags:
        """By earlier rounds, with Jeffreys' half a sample of each kind, and nothing has failed in this one."""
        if self.solved_at is None:
            return np.zeros(seen.samples_N.shape, dtype=bool)
        rate_N = (seen.past_correct_N + 0.5) / (seen.past_samples_N + 1.0)
        is_solved_N: Flags = (rate_N >= self.solved_at) & (seen.correct_N == seen.samples_N)
        return is_solved_N


# What is believed of a prompt


def pass_rate_prior(seen: Seen) -> tuple[float, float]:
    """Return a, b of the Beta(a, b) of pass rates over the population, by maximum likelihood over all counts.

    A prompt with c of n correct has the likelihood B(a + c, b + n - c) / B(a, b). Where sampling stopped because of
    what it saw this is still right, and moments would be biased: a stopping rule is a factor without a and b. log a
    and log b have a normal prior of deviation 2 around 0, which holds only where there is almost nothing to fit.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln, digamma

    (samples_S, correct_S), _, count_S = _states(*_evidence(seen))
    n_S, c_S = samples_S / PAST_STEPS, correct_S / PAST_STEPS
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


def concentration_weights(distinct_S: Ints, among_S: Ints, count_S: Ints, *, iterations: int = 50) -> Floats:
    """Return the weight of each of `THETA_T` in the population, by expectation maximisation.

    Correct traces of a prompt are taken to be a Chinese restaurant: after c of them the next is new with probability
    theta / (theta + c), so d distinct among c have the likelihood theta^d Gamma(theta) / Gamma(theta + c), up to a
    factor without theta. Each concentration starts with one prompt's weight, so none is ever ruled out.
    """
    likelihood_S_T = np.exp(_log_likelihood(distinct_S, among_S))
    weight_T = np.full(THETA_T.size, 1.0 / THETA_T.size)
    for _ in range(iterations):
        share_S_T = likelihood_S_T * weight_T
        share_S_T /= share_S_T.sum(axis=1, keepdims=True)
        weight_T = count_S @ share_S_T + 1.0 / THETA_T.size
        weight_T /= weight_T.sum()
    return weight_T


def _log_likelihood(distinct_S: Ints, among_S: Ints) -> Floats:
    from scipy.special import gammaln

    log_S_T: Floats = distinct_S[:, None] * np.log(THETA_T) + gammaln(THETA_T) - gammaln(THETA_T + among_S[:, None])
    log_S_T -= log_S_T.max(axis=1, keepdims=True)
    return log_S_T


def mean_lengths(seen: Seen) -> Floats:
    """Return each prompt's mean tokens a sample, its own shrunk to the population's."""
    mean = seen.tokens_N.sum() / max(1, seen.samples_N.sum())
    length_N: Floats = np.maximum(1.0, (seen.tokens_N + LENGTH_WEIGHT * mean) / (seen.samples_N + LENGTH_WEIGHT))
    return length_N


@dataclass(frozen=True, slots=True)
class Gains:
    """Of each state S, in steps J of further samples: step j begins after `start` and has `size` samples.

    `rate` is what one sample of a step is expected to bring; `needed` how many samples would fill the cap.
    """

    start_J: Ints
    size_J: Ints
    rate_S_J: Floats
    needed_S: Floats


def gain_curves(seen: Seen, open_N: Ints, *, cap: int, most: int, first: float) -> tuple[Gains, Ints]:
    """Return what further samples are expected to bring, and the state of each of the prompts `open_N`.

    The posterior Beta(alpha, beta) of the pass rate is replaced by two points with its first two moments: 0, and with
    probability r = p / q the rate q = (alpha + 1) / (alpha + beta + 1), where p = alpha / (alpha + beta). After m
    samples M(m) = E_theta[theta (psi(theta + c + m q) - psi(theta + c))] new traces are expected at q; their number is
    taken as Poisson, of which at most cap - d count. The chance that m samples hold the first correct one needs no
    such help: 1 - B(alpha, beta + m) / B(alpha, beta).
    """
    from scipy.special import betaln

    a, b = pass_rate_prior(seen)
    among_N = np.maximum(seen.distinct_of_N, seen.distinct_N)
    (d_S, c_S), _, count_S = _states(seen.distinct_N, among_N)
    weight_T = concentration_weights(d_S, c_S, count_S)
    n_N, k_N = _evidence(seen)
    (n_S, k_S, d_S, c_S), state_N, _ = _states(n_N[open_N], k_N[open_N], seen.distinct_N[open_N], among_N[open_N])
    alpha_S, beta_S = a + k_S / PAST_STEPS, b + (n_S - k_S) / PAST_STEPS
    q_S = (alpha_S + 1) / (alpha_S + beta_S + 1)
    reachable_S = alpha_S / (alpha_S + beta_S) / q_S
    size_J = 2 ** np.maximum(np.arange(int(np.ceil(np.log2(max(2, most)))) + 1) - 1, 0)
    end_J = size_J.cumsum()
    new_S_J = _expected_new(d_S, c_S, q_S[:, None] * end_J, weight_T)
    gain_S_J = reachable_S[:, None] * _at_most(new_S_J, (cap - d_S)[:, None])
    is_first = 1.0 - np.exp(betaln(alpha_S[:, None], beta_S[:, None] + end_J) - betaln(alpha_S, beta_S)[:, None])
    gain_S_J += first * is_first * (d_S == 0)[:, None]
    rate_S_J = np.diff(gain_S_J, axis=1, prepend=0.0) / size_J
    return Gains(end_J - size_J, size_J, rate_S_J, _until_filled(new_S_J, cap - d_S, end_J)), state_N


def _expected_new(distinct_S: Ints, among_S: Ints, correct_S_J: Floats, weight_T: Floats) -> Floats:
    """Return how many new traces so many further correct ones hold, over the posterior of the concentration."""
    from scipy.special import digamma

    weight_S_T = np.exp(_log_likelihood(distinct_S, among_S)) * weight_T
    weight_S_T /= weight_S_T.sum(axis=1, keepdims=True)
    new_S_J = np.zeros_like(correct_S_J)
    for theta, weight_S in zip(THETA_T, weight_S_T.T, strict=True):
        seated_S = theta + among_S
        new_S_J += (weight_S * theta)[:, None] * (digamma(seated_S[:, None] + correct_S_J) - digamma(seated_S)[:, None])
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


# What a wave holds


def _probe(seen: Seen, probe_N: Ints, tokens_left: int | None, max_tokens: int) -> Ints:
    """What is missing of a first look at every prompt; where tokens are short, whole prompts by their order."""
    missing_N = np.maximum(0, probe_N - seen.samples_N)
    return _afford(missing_N, np.zeros(missing_N.shape), seen.order_N, tokens_left, max_tokens)


def _until(seen: Seen, target_N: Ints, most: int, probe: int, tokens_left: int | None, max_tokens: int) -> Ints:
    """Sample until each prompt has its target of correct ones; those with the fewest samples come first."""
    probe_N = np.full(seen.samples_N.shape, min(probe, most))
    allotted_N = _probe(seen, probe_N, tokens_left, max_tokens)
    if (seen.samples_N < probe_N).any() or _is_spent(seen, tokens_left, max_tokens):
        return allotted_N
    a, b = pass_rate_prior(seen)
    rate_N = (seen.past_correct_N + seen.correct_N + a) / (seen.past_samples_N + seen.samples_N + a + b)
    missing_N = np.maximum(0, target_N - seen.correct_N)
    wave_N = _wave(seen.samples_N, missing_N / rate_N, most)
    wave_N[(missing_N == 0) | seen.is_held_out_N] = 0
    return _afford(wave_N, -seen.samples_N.astype(np.float64), seen.order_N, tokens_left, max_tokens)


def _wave(samples_N: Ints, needed_N: Floats | Ints, most: int) -> Ints:
    """Round what a prompt needs to what one wave gives it: at most as many as it has, at least a quarter of that.

    So a prompt that turns out easy has at most twice what it needed, and one that goes on to `most` from a probe of 4
    takes few waves.
    """
    wished_N = np.clip(np.ceil(needed_N), np.ceil(samples_N / 4), samples_N)
    wave_N: Ints = np.minimum(wished_N, np.maximum(0, most - samples_N)).astype(np.int64)
    return wave_N


def _is_spent(seen: Seen, tokens_left: int | None, max_tokens: int) -> bool:
    return tokens_left is not None and tokens_left // max_tokens < max(1.0, LEAST_WAVE * seen.samples_N.sum())


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


def _price(value_N_J: npt.NDArray[np.float32], tokens_N_J: Floats, tokens_left: int | None) -> float:
    """Return the gain a token at which everything that is worth as much is expected to cost what is left.

    A histogram of log values takes the place of a sort; its bins are narrower than a thousandth of their range.
    """
    if tokens_left is None or tokens_N_J.sum() <= tokens_left:
        return 0.0
    log_N_J = np.log(np.maximum(value_N_J, 1e-12))
    low, high = float(log_N_J.min()), float(log_N_J.max())
    bin_N_J = ((log_N_J - low) * ((PRICE_BINS - 1) / max(high - low, 1e-9))).astype(np.int64)
    # Whole tokens, so that the sums do not depend on the order of the prompts.
    tokens_B = np.bincount(bin_N_J.ravel(), weights=tokens_N_J.ravel(), minlength=PRICE_BINS)
    from_above_B = tokens_B[::-1].cumsum()[::-1]
    lowest = min(int((from_above_B > tokens_left).sum()), PRICE_BINS - 1)
    return float(np.exp(low + lowest * max(high - low, 1e-9) / (PRICE_BINS - 1)))


def _evidence(seen: Seen) -> tuple[Ints, Ints]:
    """Return samples and correct ones with the past, in quarters: few distinct states, whatever the discounts."""
    samples_N = seen.samples_N * PAST_STEPS + np.rint(seen.past_samples_N * PAST_STEPS).astype(np.int64)
    correct_N = seen.correct_N * PAST_STEPS + np.rint(seen.past_correct_N * PAST_STEPS).astype(np.int64)
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
