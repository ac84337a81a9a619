"""Timing of a round: seconds by stage, and when each resource was at work.

The second are lines of JSON in the run folder, which only the report reads.
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
    """A resource was at a piece of work from `began` to `ended` (Unix time), and busy with it for `busy` seconds.

    `blocked` is how long it waited for another resource; `session` names the process, by when it began.
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


def ignore(span: Span) -> None:
    """Take no note."""


# Sampling, with what goes on beside it, notes its own; so does an evaluation.
RESOURCE_OF: dict[str, Resource] = {"train": "model", "score": "model", "select": "other"}


@dataclass(slots=True)
class Timing:
    """Seconds by round and stage in this process; what an earlier, interrupted process spent is not in them."""

    note: Note = ignore
    _spent: dict[int, dict[str, float]] = field(default_factory=dict)
    _round_began: float = field(default_factory=perf_counter)

    @contextmanager
    def timed(self, round_index: int, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            with noted(self.note, RESOURCE_OF[stage], stage, round_index) if stage in RESOURCE_OF else nullcontext():
                yield
        finally:
            self.add(round_index, {stage: perf_counter() - started})

    def add(self, round_index: int, seconds: Mapping[str, float]) -> None:
        spent = self._spent.setdefault(round_index, {})
        for stage, more in seconds.items():
            spent[stage] = spent.get(stage, 0.0) + more

    def finish(self, round_index: int, stages: Sequence[str]) -> dict[str, float]:
        """Return the seconds of a round by stage, `other` being what no stage spent; the next round begins."""
        spent = {stage: self._spent.get(round_index, {}).get(stage, 0.0) for stage in stages}
        now = perf_counter()
        spent["other"] = now - self._round_began - sum(spent.values())
        self._round_began = now
        return {stage: float(f"{seconds:.3f}") for stage, seconds in spent.items()}


@dataclass(slots=True)
class Timeline:
    """Appends spans to a file. A crash may tear its last line, which is then left out."""

    path: Path
    session: float = field(default_factory=time.time)
    _lock: Lock = field(default_factory=Lock)

    def note(self, span: Span) -> None:
        fields = asdict(span) | {"session": self.session}
        line = json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in fields.items()})
        with self._lock, self.path.open("a") as out:
            out.write(line + "\n")


@contextmanager
def noted(note: Note, resource: Resource, stage: str, round_index: int) -> Iterator[None]:
    """Note a resource as busy for as long as the block takes."""
    began = time.time()
    try:
        yield
    finally:
        ended = time.time()
        note(Span(resource, stage, round_index, began, ended, ended - began))


def read_spans(path: Path) -> list[Span]:
    """Return the spans of a file, oldest first; none where there is no file."""
    if not path.exists():
        return []
    spans = []
    for line in path.read_text().splitlines():
        try:
            spans.append(Span(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):  # torn by a crash, and what came next is glued to it
            continue
    return sorted(spans, key=lambda span: span.began)
