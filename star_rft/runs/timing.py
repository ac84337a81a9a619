"""Timing of a round: seconds by stage, and spans of time in which each resource was busy.

Spans are lines of JSON in the run folder, which only the report reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Literal

# `model` is the device that samples and trains; `verifier` its worker processes; `writer` what puts parts on the disk.
Resource = Literal["model", "verifier", "writer", "other"]
RESOURCES: tuple[Resource, ...] = ("model", "verifier", "writer", "other")


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time in which a resource did one piece of work.

    Attributes:
        resource: What worked.
        stage: The stage of the round.
        round: The round.
        began: Unix time.
        ended: Unix time.
        busy: Seconds of work within the span.
        blocked: Seconds of waiting for another resource.
        session: Unix time at which the process began, which identifies it.
    """

    resource: Resource
    stage: str
    round: int
    began: float
    ended: float
    busy: float
    blocked: float = 0.0
    session: float = 0.0


Note = Callable[[Span], None]


def ignore(_span: Span) -> None:
    """Drop a span: the `Note` of runs whose timeline is not wanted."""


# Sampling and evaluation are not here: they note the spans of several resources that work at the same time.
RESOURCE_OF: dict[str, Resource] = {"train": "model", "score": "model", "select": "other"}


@dataclass(slots=True)
class Timing:
    """Seconds by round and stage in this process. Those of an earlier, interrupted process are not counted."""

    note: Note = ignore
    _spent: dict[int, dict[str, float]] = field(default_factory=dict)
    _round_began: float = field(default_factory=perf_counter)

    @contextmanager
    def timed(self, round_index: int, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        started = perf_counter()
        try:
            with noted(self.note, RESOURCE_OF[stage], stage, round_index) if stage in RESOURCE_OF else nullcontext():
                yield
        finally:
            self.add(round_index, {stage: perf_counter() - started})

    def add(self, round_index: int, seconds: Mapping[str, float]) -> None:
        """Add seconds to stages of a round."""
        spent = self._spent.setdefault(round_index, {})
        for stage, more in seconds.items():
            spent[stage] = spent.get(stage, 0.0) + more

    def finish(self, round_index: int, stages: Sequence[str]) -> dict[str, float]:
        """Return the seconds of a round by stage, with the rest as `other`, and start the clock of the next round."""
        spent = {stage: self._spent.get(round_index, {}).get(stage, 0.0) for stage in stages}
        now = perf_counter()
        spent["other"] = now - self._round_began - sum(spent.values())
        self._round_began = now
        return {stage: float(f"{seconds:.3f}") for stage, seconds in spent.items()}


@dataclass(slots=True)
class Timeline:
    """Appends spans to a file. A crash may tear the last line, which `read_spans` leaves out."""

    path: Path
    session: float = field(default_factory=time.time)
    _lock: Lock = field(default_factory=Lock)

    def note(self, span: Span) -> None:
        """Append a span; threads may call it at the same time."""
        fields = asdict(span) | {"session": self.session}
        line = json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in fields.items()})
        with self._lock, self.path.open("a") as out:
            out.write(line + "\n")


@contextmanager
def noted(note: Note, resource: Resource, stage: str, round_index: int) -> Iterator[None]:
    """Note a span in which a resource is busy for the time of a block."""
    began = time.time()
    try:
        yield
    finally:
        ended = time.time()
        note(Span(resource, stage, round_index, began, ended, ended - began))


def read_spans(path: Path) -> list[Span]:
    """Return the spans of a timeline, oldest first; none where there is no file."""
    if not path.exists():
        return []
    spans = []
    for line in path.read_text().splitlines():
        try:
            spans.append(Span(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):  # a line that a crash has torn, with the next one at its end
            continue
    return sorted(spans, key=lambda span: span.began)
