"""What a verifier says, and what a verifier is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Status = Literal["correct", "incorrect", "unknown"]

Reason = Literal[
    # correct
    "match",
    # incorrect: a fault of the candidate
    "below_threshold",
    "mismatch",
    "no_answer",
    "ambiguous",
    "truncated",
    "timeout",
    "crash",
    "forbidden",
    # unknown: a fault of the verifier or of the reference
    "fault",
    "undecided",
    "bad_reference",
    "no_sandbox",
]

STATUSES: tuple[str, ...] = get_args(Status)
REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` is None when nothing was scored, which is not 0. `seconds` is the time spent in the check."""

    status: Status
    score: float | None
    answer: str | None
    reason: Reason
    verifier: str
    version: str
    seconds: float = 0.0

    @property
    def is_correct(self) -> bool:
        return self.status == "correct"


class Verifier(Protocol):
    """A check that takes a completion and a reference; its options are keyword-only."""

    def __call__(self, completion: str, reference: Any, **options: Any) -> Verdict | bool | float: ...
