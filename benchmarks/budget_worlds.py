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

    correct_P_A: Ints
    distinct_P_A: Ints
    tokens_P_A: Ints

    @classmethod
    def of(cls, is_correct_P_A: Flags, is_new_P_A: Flags, tokens_P_A: Ints) -> Attempts:
        def after(each_P_A: Flags | Ints) -> Ints:
            return np.pad(each_P_A.cumsum(axis=1, dtype=np.int64), ((0, 0), (1, 0)))

        return cls(after(is_correct_P_A), after(is_new_P_A), after(tokens_P_A))

    def at(self, counts_P_A: Ints, samples_P: Ints) -> Ints:
        return counts_P_A[np.arange(samples_P.size), samples_P]


def beta_mixture(*parts: tuple[float, float, float]) -> Callable[[np.random.Generator, int], Floats]:
    """Return a draw of pass rates; each part is its share, a and b, where b = 0 stands for problems never solved."""

    def draw(rng: np.random.Generator, problems: int) -> Floats:
        part_P = rng.choice(len(parts), problems, p=[share for share, _, _ in parts])
        rates_G_P = [rng.beta(a, b, problems) if b else np.zeros(problems) for _, a, b in parts]
        rates_P: Floats = np.stack(rates_G_P)[part_P, np.arange(problems)]
        return rates_P

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

    rate_P: Floats
    theta_P: Floats
    sigma_P: Floats


def is_new_by_pitman_yor(rng: np.random.Generator, is_correct_P_A: Flags, truth: Truth) -> Flags:
    """A correct trace after c with d distinct is new with probability (theta + sigma d) / (theta + c)."""
    chance_P_A = rng.random(is_correct_P_A.shape)
    distinct_P, correct_P = np.zeros(len(chance_P_A)), np.zeros(len(chance_P_A))
    is_new_P_A = np.zeros(is_correct_P_A.shape, dtype=bool)
    for attempt in range(is_correct_P_A.shape[1]):
        share_P = chance_P_A[:, attempt] * (truth.theta_P + correct_P)
        is_new_P = (correct_P == 0) | (share_P < truth.theta_P + truth.sigma_P * distinct_P)
        is_new_P_A[:, attempt] = is_new_P & is_correct_P_A[:, attempt]
        distinct_P += is_new_P_A[:, attempt]
        correct_P += is_correct_P_A[:, attempt]
    return is_new_P_A


def is_new_by_paths(rng: np.random.Generator, is_correct_P_A: Flags) -> Flags:
    """Between 1 and 40 paths a problem (log-uniform), the r-th with probability r ** -exponent, exponent U(0.8, 3)."""
    problems, depth = is_correct_P_A.shape
    paths_P = np.exp(rng.uniform(0.0, np.log(41.0), problems)).astype(np.int64)
    rank_R = np.arange(1, 41)
    weight_P_R = rank_R ** -rng.uniform(0.8, 3.0, (problems, 1)) * (rank_R <= paths_P[:, None])
    upto_P_R = weight_P_R.cumsum(axis=1) / weight_P_R.sum(axis=1, keepdims=True)
    is_new_P_A = np.zeros((problems, depth), dtype=bool)
    is_seen_P_R = np.zeros((problems, rank_R.size + 1), dtype=bool)
    row_P = np.arange(problems)
    for attempt in range(depth):
        path_P = (rng.random((problems, 1)) > upto_P_R).sum(axis=1)
        is_correct_P = is_correct_P_A[:, attempt]
        is_new_P_A[:, attempt] = is_correct_P & ~is_seen_P_R[row_P, path_P]
        is_seen_P_R[row_P, path_P] |= is_correct_P
    return is_new_P_A


def simulated(rates: str, diversity: str, *, problems: int, seed: int) -> tuple[Attempts, Truth | None]:
    """Harder problems have longer solutions, and wrong attempts are a tenth longer."""
    rng = np.random.default_rng(seed)
    rate_P = PASS_RATES[rates](rng, problems)
    is_correct_P_A = rng.random((problems, DEPTH)) < rate_P[:, None]
    length_P = 110.0 * (1.5 - 0.5 * rate_P) * np.exp(0.25 * rng.standard_normal(problems))
    noise_P_A = np.exp(0.25 * rng.standard_normal((problems, DEPTH)))
    tokens_P_A = length_P[:, None] * noise_P_A * np.where(is_correct_P_A, 1.0, 1.1)
    whole_P_A: Ints = np.clip(tokens_P_A, 1, MAX_TOKENS).astype(np.int64)
    if diversity == "paths":
        return Attempts.of(is_correct_P_A, is_new_by_paths(rng, is_correct_P_A), whole_P_A), None
    if diversity == "texts":
        truth = Truth(rate_P, 10.0 * np.exp(rng.standard_normal(problems)), np.zeros(problems))
    else:
        truth = Truth(rate_P, np.zeros(problems), rng.uniform(0.0, 0.65, problems))
    return Attempts.of(is_correct_P_A, is_new_by_pitman_yor(rng, is_correct_P_A, truth), whole_P_A), truth


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
