"""The whole course of a training, fixed before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from star_rft.errors import TrainingError
from star_rft.training.batches import Size, draw_steps, split_even
from star_rft.training.settings import Settings

# About so many tokens make a micro-batch unless its size is given. On a CPU, more speed up the kernels no more
# than they add padding (benchmarks/train.py --sweep).
MICRO_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class Plan:
    """Micro-batches in order, `parts` of them an optimizer step and rank."""

    rows: list[list[int]]
    parts: int
    tokens_of_step: list[int]


def make_plan(sizes: Sequence[Size], settings: Settings, *, device: str, ranks: int, packed: bool) -> Plan:
    """Fix which items meet in which micro-batch: the same on every rank, and after a resume."""
    if settings.max_steps is not None:
        draws = settings.max_steps * settings.batch_size
    elif settings.epochs is not None:
        draws = math.ceil(settings.epochs * len(sizes))
    else:
        raise TrainingError("epochs and max_steps are both None: give one")
    budget = MICRO_BATCH_TOKENS.get(device, MICRO_BATCH_TOKENS["cuda"])
    size = settings.micro_batch_size or max(1, round(budget * len(sizes) / sum(item.tokens for item in sizes)))
    parts = math.ceil(min(settings.batch_size, draws) / (size * ranks)) * ranks
    steps = list(draw_steps(len(sizes), batch_size=settings.batch_size, draws=draws, seed=settings.seed))
    rows = [row for step in steps for row in split_even(step, sizes, parts=parts, packed=packed)]
    return Plan(rows, parts // ranks, [sum(sizes[i].tokens for i in step) for step in steps])
