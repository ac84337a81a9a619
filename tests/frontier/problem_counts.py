"""Counts of samples and correct samples by problem, as budgets read them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from star_rft.frontier.counts import ProblemCounts


def counts(samples: list[int], correct: list[int], distinct: list[int] | None = None, **changes: Any) -> ProblemCounts:
    size = len(samples)
    seen = ProblemCounts(
        samples_P=np.array(samples),
        correct_P=np.array(correct),
        distinct_P=np.array(correct if distinct is None else distinct),
        distinct_of_P=np.array(correct),
        tokens_P=10 * np.array(samples),
        past_samples_P=np.zeros(size),
        past_correct_P=np.zeros(size),
        is_quarantined_P=np.zeros(size, dtype=bool),
        order_P=np.arange(size),
    )
    return replace(seen, **changes)
