"""Verifiers as reward functions of TRL trainers (GRPO, RLOO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from verifiers.pool import Pool
from verifiers.types import Verdict

RewardFunction = Callable[..., list[float | None]]


def as_reward(
    name: str,
    reference_column: str = "solution",
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> RewardFunction:
    """Return `reward(prompts, completions, **columns) -> list[float | None]` for TRL.

    An unknown verdict gives None, which GRPO and RLOO leave out. The worker processes start with the first
    batch and stay for the whole training.
    """
    pool = Pool(name, workers=workers, timeout=timeout, **options)

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if reference_column not in columns:
            raise ValueError(
                f"the data set has no column {reference_column!r}, which as_reward({name!r}) reads "
                f"references from; columns: {', '.join(sorted(columns))}. Pass reference_column=..."
            )
        references = columns[reference_column]
        pairs = zip(map(completion_text, completions), references, strict=True)
        return [_reward(verdict) for verdict in pool.verify_iter(pairs)]

    reward.__name__ = reward.__qualname__ = f"{name.rpartition(':')[2]}_reward"
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
