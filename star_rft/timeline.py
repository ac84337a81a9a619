"""When each resource of a run was at work: lines of JSON in the run folder, for the report. Nothing else reads them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
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
def noted(note: Note, resource: Resource, stage: str, round: int) -> Iterator[None]:
    """Note a resource as busy for as long as the block takes."""
    began = time.time()
    try:
        yield
    finally:
        ended = time.time()
        note(Span(resource, stage, round, began, ended, ended - began))


def read(path: Path) -> list[Span]:
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
