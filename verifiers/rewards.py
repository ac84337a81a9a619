"""Verifiers as reward functions of TRL trainers (GRPO, RLOO), and counts of verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from verifiers.types import Verdict
from verifiers.workers.pool import Pool

# Keyword arguments that TRL passes to a reward function besides the columns of the data set.
_NOT_COLUMNS = frozenset({"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"})
# The share of unknown verdicts is checked after this many verdicts, then each time their number has doubled.
_FIRST_LOOK = 64


def as_reward(
    name: str,
    reference_column: str = "solution",
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Callable[..., list[float | None]]:
    """Return a verifier as a reward function of TRL's trainers.

        trainer = GRPOTrainer(model, reward_funcs=verifiers.as_reward("math"), train_dataset=problems)

    An unknown verdict gives None, which GRPO and RLOO leave out. Their share is TRL's metric `NAME_unknown`, and a
    warning is logged where it is above 2%. Worker processes start with the first batch and are kept.

    Args:
        name: A registered verifier, or "pkg.module:function".
        reference_column: Column of the data set that holds the references.
        workers: Number of processes, by default one a core.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Returns:
        `reward(prompts, completions, **columns)`, which gives one score or None a completion. It raises ValueError
        where the data set has no such column.

    Raises:
        UnknownVerifier: No verifier has this name.
        UnknownOption: An option is misspelt, missing or has a value of the wrong type.
    """
    pool = Pool(name, workers=workers, timeout=timeout, **options)
    tally, short = Tally(), name.rpartition(":")[2]
    next_look = _FIRST_LOOK

    def reward(
        prompts: Sequence[Any],  # noqa: ARG001  # TRL passes it by name
        completions: Sequence[Any],
        **columns: Any,
    ) -> list[float | None]:
        nonlocal next_look
        if reference_column not in columns:
            there = ", ".join(sorted(columns.keys() - _NOT_COLUMNS))
            raise ValueError(
                f"the data set has no column {reference_column!r}, which as_reward({name!r}) reads "
                f"references from; columns: {there}. Pass reference_column=..."
            )
        pairs = zip(map(_completion_text, completions), columns[reference_column], strict=True)
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


def _completion_text(completion: Any) -> str:
    """Return the text to check: a string itself, or the last assistant message that has content."""
    if isinstance(completion, str):
        return completion
    for message in reversed(completion):
        if message.get("role", "assistant") == "assistant" and message.get("content"):
            content = message["content"]
            if isinstance(content, str):
                return content
            return "".join(part["text"] for part in content if part.get("type") == "text")
    return ""


_UNKNOWN_LIMIT = 0.02


@dataclass(slots=True)
class Tally:
    """Counts of verdicts by status and reason.

        >>> tally = verifiers.Tally()
        >>> verdicts = list(tally.watch(verifiers.verify_iter("math", [("It is 5.", "5")])))
        >>> str(tally)
        '1 verdicts: 1 correct, 0 incorrect, 0 unknown (match 1)'

    Attributes:
        statuses: Number of verdicts by status.
        reasons: Number of verdicts by reason.
        seconds: Sum of the time that the checks took.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.statuses[verdict.status] += 1
        self.reasons[verdict.reason] += 1
        self.seconds += verdict.seconds

    def watch(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """Yield the verdicts unchanged and count each."""
        for verdict in verdicts:
            self.add(verdict)
            yield verdict

    @property
    def total(self) -> int:
        """The number of verdicts counted."""
        return self.statuses.total()

    @property
    def unknown_share(self) -> float:
        """The share of unknown verdicts, between 0 and 1; 0.0 before the first verdict."""
        return self.statuses["unknown"] / self.total if self.total else 0.0

    def __str__(self) -> str:
        parts = [f"{self.statuses[status]} {status}" for status in ("correct", "incorrect", "unknown")]
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        return f"{self.total} verdicts: {', '.join(parts)}" + (f" ({reasons})" if reasons else "")

    def warning(self, limit: float = _UNKNOWN_LIMIT) -> str | None:
        """Return a warning for the user where the share of unknown verdicts is above `limit`, else None."""
        if self.unknown_share <= limit:
            return None
        why = {"fault", "undecided", "bad_reference", "no_sandbox"}
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common() if reason in why)
        return (
            f"WARNING: {self.statuses['unknown']} of {self.total} verdicts ({self.unknown_share:.1%}) are "
            f"unknown ({reasons}). The verifier or the references are broken, not the answers: nothing is "
            f"known about these samples, and they are not trained on."
        )

    def warn(self, limit: float = _UNKNOWN_LIMIT) -> None:
        """Log the warning, if there is one, with the logger "verifiers"."""
        if text := self.warning(limit):
            import logging

            logging.getLogger("verifiers").warning(text)
