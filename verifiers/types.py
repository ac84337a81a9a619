"""The result of a check, `Verdict`, and the protocol `Verifier` of the functions that give one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

Status = Literal["correct", "incorrect", "unknown"]

# Each reason belongs to one status.
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
    """A verifier's judgement of one completion. Checks build it with `correct`, `incorrect` and `unknown`.

    Attributes:
        status: `correct` or `incorrect`; `unknown` where the verifier or the reference failed.
        score: 0.0 or 1.0 unless the check gives a number of its own; None where nothing was scored, which is not 0.
        answer: The answer that was judged, or one line on what went wrong; None where there is neither.
        reason: Why the status was given, one of `REASONS`.
        verifier: Name of the verifier. Workers fill this field and the next two in.
        version: Version of the verifier; `code` appends its sandbox level, as in "1+jail".
        seconds: Time that the check took.
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
        """Return a correct verdict, whose reason is `match`."""
        return cls("correct", score, answer, "match")

    @classmethod
    def incorrect(cls, reason: Reason, answer: str | None = None, *, score: float = 0.0) -> Verdict:
        """Return an incorrect verdict: the completion is at fault (`mismatch`, `no_answer`, `ambiguous`, ...)."""
        return cls("incorrect", score, answer, reason)

    @classmethod
    def unknown(cls, reason: Reason, answer: str | None = None) -> Verdict:
        """Return an unknown verdict: the verifier or the reference is at fault (`undecided`, `bad_reference`, ...)."""
        return cls("unknown", None, answer, reason)

    @property
    def is_correct(self) -> bool:
        """False for incorrect and for unknown verdicts."""
        return self.status == "correct"


class Verifier(Protocol):
    """A function that checks a completion against a reference. Its options are keyword-only parameters."""

    def __call__(self, completion: str, reference: Any, **options: Any) -> Verdict | bool | float:
        """Return a verdict; True or False; or a score, which the verifier's `threshold` turns into a verdict."""
        ...
