"""Counts of samples and correct samples by problem, as budgets read them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from star_rft.frontier.counts import ProblemCounts


def counts(samples: list[int], correct: list[int], distinct: list[int] | None = None, **changes: Any) -> ProblemCounts:
    size = len(samples)
    seen = ProblemCounts(
        samples_N=np.array(samples),
        correct_N=np.array(correct),
        distinct_N=np.array(correct if distinct is None else distinct),
        distinct_of_N=np.array(correct),
        tokens_N=10 * np.array(samples),
        past_samples_N=np.zeros(size),
        past_correct_N=np.zeros(size),
        is_quarantined_N=np.zeros(size, dtype=bool),
        order_N=np.arange(size),
    )
    return replace(seen, **changes)
