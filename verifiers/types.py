"""The records `Verdict` and the protocol `Verifier`."""

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
    """What a verifier says of one completion. Checks make it with `correct`, `incorrect` and `unknown`.

    `answer` is what was judged, or what was wrong. `score` is None when nothing was scored, which is not 0. Workers
    fill in `verifier`, its `version` and the `seconds` that the check took.
    """

    status: Status
    score: float | None
    answer: str | None
    reason: Reason
    verifier: str = ""
    version: str = ""
    seconds: float = 0.0

    @classmethod
    def correct(cls, answer: str | None = None, *, score: float = 1.0) -> Verdict:
        return cls("correct", score, answer, "match")

    @classmethod
    def incorrect(cls, reason: Reason, answer: str | None = None, *, score: float = 0.0) -> Verdict:
        """The candidate is at fault: `mismatch`, `no_answer`, `ambiguous`, `below_threshold`, ..."""
        return cls("incorrect", score, answer, reason)

    @classmethod
    def unknown(cls, reason: Reason, answer: str | None = None) -> Verdict:
        """The verifier or the reference is at fault: `undecided`, `bad_reference`, `fault`, `no_sandbox`."""
        return cls("unknown", None, answer, reason)

    @property
    def is_correct(self) -> bool:
        return self.status == "correct"


class Verifier(Protocol):
    """A check that takes a completion and a reference; its options are keyword-only."""

    def __call__(self, completion: str, reference: Any, **options: Any) -> Verdict | bool | float: ...
