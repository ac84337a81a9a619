"""Which model is loaded, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's folder or name on the hub, and how it is loaded.

    Attributes:
        path: A folder of a checkpoint, or a name on the hub.
        dtype: Of a model that this process loads: "auto" (float32 on a CPU, bfloat16 on a GPU), "float32", "bfloat16"
            or "float16"; vLLM's "auto" is the checkpoint's own. Training keeps its weights in float32 in any case.
        device: Of a model that this process loads: "auto" (a GPU where there is one), or a device of torch: "cpu",
            "cuda", "cuda:1".
        trust_remote_code: Whether Python files in the model's folder may be executed.
    """

    path: str | Path
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False

    @classmethod
    def of(cls, model: ModelSpec | str | Path) -> ModelSpec:
        """Return a spec as it is, and of a path alone the one with all defaults."""
        return model if isinstance(model, ModelSpec) else cls(model)

    def at(self, path: str | Path) -> ModelSpec:
        """Return another model that is loaded in the same way."""
        return replace(self, path=path)


# What functions take that load a model, or a part of it.
AnyModel = ModelSpec | str | Path
