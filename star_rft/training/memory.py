"""How much memory a training needs, reckoned before it starts, against what there is. Loads no torch until asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.surroundings import usable_memory
from star_rft.training.errors import TrainingError
from star_rft.training.settings import LoraSpec, Say

if TYPE_CHECKING:
    import torch

GIB = 2**30
# What a Llama layer keeps for its backward pass, in widths of the residual stream and of the MLP, a token: the inputs
# of both norms and of all projections, rotated queries and keys, the attention's output.
WIDTHS, MLP_WIDTHS = 10, 4
# Copies of the scored logits that meet: the logits, their log-softmax, and its gradient.
LOGIT_COPIES = 3
# TRL's fused head, on a GPU, projects tiles of so many tokens and words, in float32.
TILE_TOKENS, TILE_WORDS, TILES = 4096, 32768, 2
# The MLP of architectures whose configs do not state its width.
MLP_RATIO = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides how much memory it takes. `matrices` are its linear layers as (name, rows + columns)."""

    parameters: int
    layers: int
    width: int
    mlp_width: int
    vocabulary: int
    matrices: Sequence[tuple[str, int]]

    def adapted(self, lora: LoraSpec) -> int:
        """Return how many parameters the adapters have."""
        return sum(lora.r * size for name, size in self.matrices if _is_target(name, lora.target_modules))


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes a process, at the moment of the most. `slack`: what the allocator cannot give back at once."""

    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int
    slack: int

    @property
    def least(self) -> int:
        """What no setting of the micro-batches can save."""
        return self.weights + self.gradients + self.moments

    @property
    def total(self) -> int:
        """Gradients come to be as activations go, so that only the larger of the two counts."""
        passing = max(self.gradients, self.activations + self.logits)
        return self.weights + self.moments + passing + self.slack

    def __str__(self) -> str:
        parts = [f"{f.name} {gib(getattr(self, f.name))}" for f in fields(self) if getattr(self, f.name) >= GIB / 20]
        return f"{gib(self.total)} ({', '.join(parts)})" if parts else gib(self.total)


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def shape_of(model: str | Path) -> Shape | None:
    """Read a model's shape from its folder; None where it is no folder with safetensors and the usual names."""
    folder = Path(model)
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        return None
    raw = json.loads((folder / "config.json").read_text())
    config = raw.get("text_config", raw)
    tensors = {name: entry for file in files for name, entry in _header(file).items()}
    width, layers = (_first(config, names) for names in (("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer")))
    vocabulary = _first(config, ("vocab_size",))
    if width is None or layers is None or vocabulary is None:
        return None
    matrices = [
        (name.removesuffix(".weight"), sum(shape))
        for name, shape in tensors.items()
        if len(shape) == 2 and name.endswith(".weight") and vocabulary not in shape
    ]
    parameters = sum(prod(shape) for shape in tensors.values())
    mlp = _first(config, ("intermediate_size", "n_inner")) or MLP_RATIO * width
    return Shape(parameters, layers, width, mlp, vocabulary, matrices)


def estimate(
    shape: Shape,
    *,
    tokens: int,
    scored: int,
    lora: LoraSpec | None,
    gradient_checkpointing: bool,
    is_bf16: bool,
    on_gpu: bool,
    shards: int = 1,
) -> Need:
    """Return what a process needs whose largest micro-batch has so many tokens, padding included, and scored ones.

    `shards` is over how many processes weights, gradients and optimizer are split. Then the layers at work are whole
    in each (FSDP2 gathers one and the next, and keeps the embeddings), and where that is no GPU, so is the model while
    it is loaded and while it is written.
    """
    trained = shape.parameters if lora is None else shape.adapted(lora)
    total = shape.parameters + (0 if lora is None else trained)
    layer = (total - shape.vocabulary * shape.width) // shape.layers
    gathered = 0 if shards == 1 else 4 * (2 * layer + shape.vocabulary * shape.width)
    cast = 2 * total // shards if is_bf16 else 0  # autocast keeps its copies for the backward pass
    weights = 4 * total // shards + gathered + cast
    gradients, moments = 4 * trained // shards, 8 * trained // shards
    if shards > 1 and not on_gpu:
        weights = max(weights, 4 * total)
    # Norms compute and keep float32 under autocast; projections keep their inputs in bf16.
    a_layer = tokens * (WIDTHS * shape.width + MLP_WIDTHS * shape.mlp_width) * (3 if is_bf16 else 4)
    # With checkpointing: each layer's input, and one layer computed again, with its gradients.
    kept = tokens * shape.width * 4 * shape.layers + 2 * a_layer if gradient_checkpointing else a_layer * shape.layers
    if on_gpu:
        logits = TILES * 4 * min(scored, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS)
    else:
        logits = LOGIT_COPIES * 4 * scored * shape.vocabulary
    # A CPU's allocator holds what was freed between steps, in pieces that are too small for what comes next.
    slack = 0 if on_gpu else max(gradients, kept // 2)
    return Need(weights, gradients, moments, kept, logits, slack)


def check(need: Need, free: int, *, where: str, say: Say | None) -> None:
    """Raise TrainingError where a training certainly does not fit, and say so where it probably does not."""
    if need.least > free:
        raise TrainingError(
            f"training needs at least {gib(need.least)} for weights, gradients and optimizer, and {gib(free)} {where} "
            "are free: set lora, or share them out with launch.processes (fsdp2), or take a smaller model"
        )
    if need.total > free and say is not None:
        say(
            f"training may need {need}, and {gib(free)} {where} are free: if it runs out of memory, lower "
            "micro_batch_size or set gradient_checkpointing, lora, or launch.processes (fsdp2)"
        )


def free_memory(device: torch.device) -> tuple[int, str]:
    """Return the bytes that this process may take, and whose they are; processes of one machine share its memory."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached, "on the GPU"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return usable_memory()[0] // processes, "of memory" + (
        f" for each of {processes} processes" if processes > 1 else ""
    )


def _header(file: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor in a safetensors file, which stands at its beginning."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name) is not None), None)


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)
