"""How long work takes the processor, and how fast this machine is: bounds in seconds are of one machine."""

from __future__ import annotations

import time
from collections.abc import Callable

# What the squares below took where the bounds of the tests were written.
SQUARES_SECONDS = 0.11


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process, not wall time: tests share the machine."""
    began = time.process_time()
    work()
    return time.process_time() - began


def slowness() -> float:
    """Return how many times as long as there this machine takes now, 1.0 if it is as fast or faster."""
    return max(1.0, min(processor_seconds(squares) for _ in range(3)) / SQUARES_SECONDS)


def squares() -> int:
    return sum(i * i for i in range(2_000_000))
