"""Where the time of a round goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter

from star_rft.timeline import Note, Resource, ignore, noted

# Sampling, with what goes on beside it, notes its own; so does an evaluation.
RESOURCE_OF: dict[str, Resource] = {"train": "model", "score": "model", "select": "other"}


@dataclass(slots=True)
class Seconds:
    """Seconds by round and stage in this process; what an earlier, interrupted process spent is not in them."""

    note: Note = ignore
    _spent: dict[int, dict[str, float]] = field(default_factory=dict)
    _round_began: float = field(default_factory=perf_counter)

    @contextmanager
    def timed(self, round: int, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            with noted(self.note, RESOURCE_OF[stage], stage, round) if stage in RESOURCE_OF else nullcontext():
                yield
        finally:
            self.add(round, {stage: perf_counter() - started})

    def add(self, round: int, seconds: Mapping[str, float]) -> None:
        spent = self._spent.setdefault(round, {})
        for stage, more in seconds.items():
            spent[stage] = spent.get(stage, 0.0) + more

    def finish(self, round: int, stages: Sequence[str]) -> dict[str, float]:
        """Return the seconds of a round by stage, `other` being what no stage spent; the next round begins."""
        spent = {stage: self._spent.get(round, {}).get(stage, 0.0) for stage in stages}
        now = perf_counter()
        spent["other"] = now - self._round_began - sum(spent.values())
        self._round_began = now
        return {stage: float(f"{seconds:.3f}") for stage, seconds in spent.items()}
