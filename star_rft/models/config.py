"""What the config.json of a model says, read as plain JSON: no torch, and no code of the model, is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from star_rft.models.errors import ModelError

# Under which names a multimodal config holds the part that is about text. The last ones are of code outside
# transformers.
TEXT_PARTS = ("text_config", "thinker_config", "llm_config", "language_config")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a model; raise ModelError for a broken one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"{path} is no JSON ({error}): fetch it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object: fetch it again")
    return value


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that is about text; the whole of it for a text model."""
    for name in TEXT_PARTS:
        part = config.get(name)
        if isinstance(part, Mapping) and part:
            return text_part(part)
    return config
