"""Verifiers as reward functions of TRL trainers (GRPO, RLOO), and counts of verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from verifiers.types import Verdict
from verifiers.workers.pool import Pool

RewardFunction = Callable[..., list[float | None]]
# What TRL passes besides the columns of the data set.
NOT_COLUMNS = frozenset({"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"})
# The share of unknown verdicts is looked at after this many, and whenever as many again have come.
FIRST_LOOK = 64


def as_reward(
    name: str,
    reference_column: str = "solution",
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> RewardFunction:
    """Return `reward(prompts, completions, **columns) -> list[float | None]` for TRL.

    An unknown verdict gives None, which GRPO and RLOO leave out; where too many are unknown a warning is logged, and
    TRL shows their share as the metric `NAME_unknown`. The worker processes start with the first batch and stay for
    the whole training.
    """
    pool = Pool(name, workers=workers, timeout=timeout, **options)
    tally, short = Tally(), name.rpartition(":")[2]
    next_look = FIRST_LOOK

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        nonlocal next_look
        if reference_column not in columns:
            there = ", ".join(sorted(columns.keys() - NOT_COLUMNS))
            raise ValueError(
                f"the data set has no column {reference_column!r}, which as_reward({name!r}) reads "
                f"references from; columns: {there}. Pass reference_column=..."
            )
        pairs = zip(map(completion_text, completions), columns[reference_column], strict=True)
        verdicts = list(tally.watch(pool.verify_iter(pairs)))
        if "log_metric" in columns and verdicts:
            share = sum(verdict.status == "unknown" for verdict in verdicts) / len(verdicts)
            columns["log_metric"](f"{short}_unknown", share)
        if tally.total >= next_look:
            tally.warn()
            next_look = 2 * tally.total
        return [_reward(verdict) for verdict in verdicts]

    reward.__name__ = reward.__qualname__ = f"{short}_reward"
    return reward


def _reward(verdict: Verdict) -> float | None:
    if verdict.status == "unknown" or verdict.score is not None:
        return verdict.score
    return float(verdict.is_correct)


def completion_text(completion: Any) -> str:
    """Return the text to check: the string itself, or the content of the last assistant message with any."""
    if isinstance(completion, str):
        return completion
    for message in reversed(completion):
        if message.get("role", "assistant") == "assistant" and message.get("content"):
            content = message["content"]
            if isinstance(content, str):
                return content
            return "".join(part["text"] for part in content if part.get("type") == "text")
    return ""


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
