"""How long a sequence a model takes, by its config alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from star_rft.models.config import text_part

# What configs call the positions they were made for. transformers maps only some of these names to the first one.
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "max_seq_length",
    "seq_length",
    "seq_len",
    "n_ctx",
    "context_length",
    "max_context_length",
    "max_target_positions",
)
LONG_ROPE = ("longrope", "su")  # "su": the name in the first configs of Phi-3
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest sequence in tokens, prompt and completion together; None: no limit. `why` names what sets it."""

    tokens: int | None
    why: str


def longest_sequence(config: Any) -> Longest:
    """Return how many positions the text part of a model takes, by its loaded config.

    A row past the original length of long rope or dynamic NTK rope changes the rotation of its whole batch, so the
    original length is the limit. Where a config states a length without a position table (ALiBi, recurrent models),
    that is what the model was trained for, and so it is the limit; without one there is no limit.
    """
    return stated_length(text_config(config).to_dict())


def stated_length(config: Mapping[str, Any]) -> Longest:
    """Return the same from the content of a config.json."""
    text = text_part(config)
    name, stated = next(
        ((name, text[name]) for name in POSITIONS if isinstance(text.get(name), int) and text[name] > 0), ("", None)
    )
    for rope in _ropes(text):
        kind = rope.get("rope_type", rope.get("type"))
        if kind not in (*LONG_ROPE, "dynamic"):
            continue
        # Phi-3 states it beside the rope parameters, and transformers gives that place priority.
        original = text.get(ORIGINAL) or rope.get(ORIGINAL) or stated
        if isinstance(original, int) and (stated is None or original <= stated):
            changed = "changes its factors" if kind in LONG_ROPE else "changes its base"
            label = "long rope" if kind in LONG_ROPE else "dynamic NTK rope"
            return Longest(original, f"{label} {changed} beyond {original} positions, for the whole batch")
    if stated is None:
        return Longest(None, "its config states no length")
    return Longest(stated, name)


def text_config(config: Any) -> Any:
    """Return the part of a loaded config that is about text, as `get_text_config` finds it."""
    try:
        return config.get_text_config(decoder=True)
    except ValueError:  # several parts might be it, as in models of speech: none is preferred
        return config


def _ropes(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the rope parameters, of each type of layer where they differ."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = text.get(key)
        if not isinstance(rope, Mapping):
            continue
        if "rope_type" in rope or "type" in rope:
            yield rope
        yield from (nested for nested in rope.values() if isinstance(nested, Mapping))
