"""How long a sequence a model takes, by its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest sequence in tokens, prompt and completion together; None: no limit. `why` names what sets it."""

    tokens: int | None
    why: str


def longest_sequence(config: Any) -> Longest:
    """Return how many positions a model of this config takes."""
    return Longest(int(config.get_text_config(decoder=True).max_position_embeddings), "max_position_embeddings")
