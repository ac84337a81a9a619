"""Simulated problems for benchmarks/budget.py: pass rates, and how alike the correct traces of a problem are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Recorded attempts a problem, and the limit of a sample's tokens.
DEPTH, MAX_TOKENS = 256, 400


@dataclass(frozen=True, slots=True)
class Attempts:
    """Of N problems after n samples, in column n (0 to A): correct ones, distinct correct ones, tokens."""

    correct_N_A: Ints
    distinct_N_A: Ints
    tokens_N_A: Ints

    @classmethod
    def of(cls, is_correct_N_A: Flags, is_new_N_A: Flags, tokens_N_A: Ints) -> Attempts:
        def after(each_N_A: Flags | Ints) -> Ints:
            return np.pad(each_N_A.cumsum(axis=1, dtype=np.int64), ((0, 0), (1, 0)))

        return cls(after(is_correct_N_A), after(is_new_N_A), after(tokens_N_A))

    def at(self, counts_N_A: Ints, samples_N: Ints) -> Ints:
        return counts_N_A[np.arange(samples_N.size), samples_N]


def beta_mixture(*parts: tuple[float, float, float]) -> Callable[[np.random.Generator, int], Floats]:
    """Return a draw of pass rates; each part is its share, a and b, where b = 0 stands for problems never solved."""

    def draw(rng: np.random.Generator, problems: int) -> Floats:
        part_N = rng.choice(len(parts), problems, p=[share for share, _, _ in parts])
        rates_P_N = [rng.beta(a, b, problems) if b else np.zeros(problems) for _, a, b in parts]
        rates_N: Floats = np.stack(rates_P_N)[part_N, np.arange(problems)]
        return rates_N

    return draw


PASS_RATES = {
    "7B": beta_mixture((0.75, 2.0, 1.1), (0.25, 0.6, 2.5)),
    "33B": beta_mixture((0.92, 6.0, 0.45), (0.08, 0.6, 1.2)),
    "weak base": beta_mixture((0.65, 0.8, 2.5), (0.35, 0.3, 6.0)),
    "unsolvable": beta_mixture((0.6, 1.0, 1.0), (0.3, 9.0, 1.0), (0.1, 0.0, 0.0)),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What only an oracle knows: pass rates, and the Pitman-Yor process of each problem's correct traces."""

    rate_N: Floats
    theta_N: Floats
    sigma_N: Floats


def is_new_by_pitman_yor(rng: np.random.Generator, is_correct_N_A: Flags, truth: Truth) -> Flags:
    """A correct trace after c with d distinct is new with probability (theta + sigma d) / (theta + c)."""
    chance_N_A = rng.random(is_correct_N_A.shape)
    distinct_N, correct_N = np.zeros(len(chance_N_A)), np.zeros(len(chance_N_A))
    is_new_N_A = np.zeros(is_correct_N_A.shape, dtype=bool)
    for attempt in range(is_correct_N_A.shape[1]):
        share_N = chance_N_A[:, attempt] * (truth.theta_N + correct_N)
        is_new_N = (correct_N == 0) | (share_N < truth.theta_N + truth.sigma_N * distinct_N)
        is_new_N_A[:, attempt] = is_new_N & is_correct_N_A[:, attempt]
        distinct_N += is_new_N_A[:, attempt]
        correct_N += is_correct_N_A[:, attempt]
    return is_new_N_A


def is_new_by_paths(rng: np.random.Generator, is_correct_N_A: Flags) -> Flags:
    """Between 1 and 40 paths a problem (log-uniform), the r-th with probability r ** -exponent, exponent U(0.8, 3)."""
    problems, depth = is_correct_N_A.shape
    paths_N = np.exp(rng.uniform(0.0, np.log(41.0), problems)).astype(np.int64)
    rank_R = np.arange(1, 41)
    weight_N_R = rank_R ** -rng.uniform(0.8, 3.0, (problems, 1)) * (rank_R <= paths_N[:, None])
    upto_N_R = weight_N_R.cumsum(axis=1) / weight_N_R.sum(axis=1, keepdims=True)
    is_new_N_A = np.zeros((problems, depth), dtype=bool)
    is_seen_N_R = np.zeros((problems, rank_R.size + 1), dtype=bool)
    row_N = np.arange(problems)
    for attempt in range(depth):
        path_N = (rng.random((problems, 1)) > upto_N_R).sum(axis=1)
        is_correct_N = is_correct_N_A[:, attempt]
        is_new_N_A[:, attempt] = is_correct_N & ~is_seen_N_R[row_N, path_N]
        is_seen_N_R[row_N, path_N] |= is_correct_N
    return is_new_N_A


def simulated(rates: str, diversity: str, *, problems: int, seed: int) -> tuple[Attempts, Truth | None]:
    """Harder problems have longer solutions, and wrong attempts are a tenth longer."""
    rng = np.random.default_rng(seed)
    rate_N = PASS_RATES[rates](rng, problems)
    is_correct_N_A = rng.random((problems, DEPTH)) < rate_N[:, None]
    length_N = 110.0 * (1.5 - 0.5 * rate_N) * np.exp(0.25 * rng.standard_normal(problems))
    noise_N_A = np.exp(0.25 * rng.standard_normal((problems, DEPTH)))
    tokens_N_A = length_N[:, None] * noise_N_A * np.where(is_correct_N_A, 1.0, 1.1)
    whole_N_A: Ints = np.clip(tokens_N_A, 1, MAX_TOKENS).astype(np.int64)
    if diversity == "paths":
        return Attempts.of(is_correct_N_A, is_new_by_paths(rng, is_correct_N_A), whole_N_A), None
    if diversity == "texts":
        truth = Truth(rate_N, 10.0 * np.exp(rng.standard_normal(problems)), np.zeros(problems))
    else:
        truth = Truth(rate_N, np.zeros(problems), rng.uniform(0.0, 0.65, problems))
    return Attempts.of(is_correct_N_A, is_new_by_pitman_yor(rng, is_correct_N_A, truth), whole_N_A), truth


WORLDS = [
    ("7B", "equations"),
    ("7B", "paths"),
    ("7B", "texts"),
    ("33B", "equations"),
    ("33B", "texts"),
    ("weak base", "equations"),
    ("weak base", "texts"),
    ("unsolvable", "equations"),
]
