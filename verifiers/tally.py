"""Counts of verdicts, and the loud warning when too many of them are unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from verifiers.types import Verdict

UNKNOWN_LIMIT = 0.02


@dataclass(slots=True)
class Tally:
    """What a run of verdicts came to. `add` one at a time, or `watch` a stream that passes through."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        self.statuses[verdict.status] += 1
        self.reasons[verdict.reason] += 1
        self.seconds += verdict.seconds

    def watch(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        for verdict in verdicts:
            self.add(verdict)
            yield verdict

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def unknown_share(self) -> float:
        return self.statuses["unknown"] / self.total if self.total else 0.0

    def __str__(self) -> str:
        parts = [f"{self.statuses[status]} {status}" for status in ("correct", "incorrect", "unknown")]
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        return f"{self.total} verdicts: {', '.join(parts)}" + (f" ({reasons})" if reasons else "")

    def warning(self, limit: float = UNKNOWN_LIMIT) -> str | None:
        """Return what to tell the user when the share of unknown verdicts is above `limit`, else None."""
        if self.unknown_share <= limit:
            return None
        why = {"fault", "undecided", "bad_reference", "no_sandbox"}
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common() if reason in why)
        return (
            f"WARNING: {self.statuses['unknown']} of {self.total} verdicts ({self.unknown_share:.1%}) are "
            f"unknown ({reasons}). The verifier or the references are broken, not the answers: nothing is "
            f"known about these samples, and they are not trained on."
        )

    def warn(self, limit: float = UNKNOWN_LIMIT) -> None:
        """Log the warning, if there is one."""
        if text := self.warning(limit):
            import logging

            logging.getLogger("verifiers").warning(text)
