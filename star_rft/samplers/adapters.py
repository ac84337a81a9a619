"""A LoRA checkpoint keeps its adapter beside the merged weights: an engine can serve that on the base instead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the largest ranks that vLLM can be told


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of `folder` for the model `base`."""

    folder: Path
    base: str
    rank: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Engine arguments that let it be served."""
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(r for r in RANKS if r >= self.rank)}


def adapter_of(model_path: str | Path) -> Adapter | None:
    """Return the adapter of a checkpoint; None where it has none, or none that can be served on a base that is there.

    An adapter that brings whole layers along (`modules_to_save`), or is of another kind than plain LoRA, is not served.
    """
    folder = Path(model_path) / "adapter"
    file = folder / "adapter_config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text())
    base, rank = config.get("base_model_name_or_path"), config.get("r", 0)
    is_plain = config.get("peft_type") == "LORA" and not config.get("modules_to_save") and not config.get("use_dora")
    if not is_plain or not base or not (Path(base) / "config.json").is_file() or not 0 < rank <= RANKS[-1]:
        return None
    return Adapter(folder, base, rank)
