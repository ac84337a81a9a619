"""Verifiers as reward functions of TRL trainers (GRPO, RLOO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from verifiers.pool import Pool
from verifiers.tally import Tally
from verifiers.types import Verdict

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
