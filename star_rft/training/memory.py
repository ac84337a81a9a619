"""Estimates the memory of a training before it starts, against what there is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import TrainingError
from star_rft.models.config import read_json, text_part
from star_rft.models.errors import ModelError
from star_rft.models.files import Entry, tensors_of
from star_rft.models.weights import MEDIA
from star_rft.runs.environment import usable_memory
from star_rft.training.options import LoraSpec, Say

if TYPE_CHECKING:
    import torch

GIB = 2**30
# What a Llama layer keeps for its backward pass, in widths of the residual stream and of the MLP, a token: the inputs
# of both norms and of all projections, rotated queries and keys, the attention's output.
WIDTHS, MLP_WIDTHS = 10, 4
# Copies of the scored logits that meet: the logits, their log-softmax, and its gradient.
LOGIT_COPIES = 3
# TRL's fused head, on a GPU, projects TILES tiles of TILE_TOKENS tokens by TILE_WORDS words, in float32.
TILE_TOKENS, TILE_WORDS, TILES = 4096, 32768, 2
# The MLP of architectures whose configs do not state its width.
MLP_RATIO = 4
# What configs call their sizes.
WIDTH = ("hidden_size", "n_embd", "d_model", "model_dim", "dim")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
MLP_WIDTH = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff", "feed_forward_size")
EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
EXPERT_WIDTH = ("moe_intermediate_size", "expert_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size")
# Experts are fused into one tensor when they are loaded, and adapters are for linear layers.
_EXPERT = re.compile(r"\.experts\.\d+\.")
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|embeddings?|token_embeddings?)\.weight$")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides how much memory it takes. `matrices` are its linear layers as (name, rows + columns).

    `frozen` of the parameters are for images or sound, which text does not pass: they are never trained.
    """

    parameters: int
    layers: int
    width: int
    mlp_width: int
    vocabulary: int
    matrices: Sequence[tuple[str, int]]
    frozen: int = 0

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
    """Return a number of bytes as text: "1.5 GiB"."""
    return f"{size / GIB:.1f} GiB"


def shape_of(model: str | Path) -> Shape | None:
    """Read a model's shape from its folder; None where it is no folder with safetensors and the usual names."""
    folder = Path(model)
    if not (folder / "config.json").is_file():
        return None
    try:
        whole = read_json(folder / "config.json")
        config = text_part(whole)
        tensors = tensors_of(folder)
    except ModelError:  # damaged files, which the loader names
        return None
    width, layers = _largest(config, WIDTH), _largest(config, LAYERS) or _counted(tensors)
    vocabulary = _largest(config, ("vocab_size", "padded_vocab_size")) or _embedded(tensors)
    if not tensors or not width or not layers or not vocabulary:
        return None
    matrices = [
        (name.removesuffix(".weight"), sum(entry.shape))
        for name, entry in tensors.items()
        if len(entry.shape) == 2
        and name.endswith(".weight")
        and vocabulary not in entry.shape
        and not _EXPERT.search(name)
    ]
    parameters = sum(prod(entry.shape) for entry in tensors.values())
    media = [entry for name, entry in tensors.items() if config is not whole and MEDIA.search(name)]
    frozen = sum(prod(entry.shape) for entry in media)
    # Some configs state experts, by default, of models that have none.
    has_experts = any("expert" in name or "moe" in name for name in tensors)
    mlp_width = _mlp_width(config, width, has_experts=has_experts)
    return Shape(parameters, layers, width, mlp_width, vocabulary, matrices, frozen)


def _mlp_width(config: Mapping[str, Any], width: int, *, has_experts: bool) -> int:
    """Return the widest MLP that a token passes: of a dense layer, or of the experts that it is sent to."""
    dense = _largest(config, MLP_WIDTH)
    used, expert = _largest(config, EXPERTS_USED), _largest(config, EXPERT_WIDTH) or dense
    shared = _largest(config, ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"))
    if has_experts and used and expert:
        shared = shared or expert * (_largest(config, ("n_shared_experts", "num_shared_experts")) or 0)
        return max(used * expert + shared, dense or 0)
    return dense or MLP_RATIO * width


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
    """Return the memory that a process needs at its largest micro-batch.

    `tokens` are those of the micro-batch, padding included, `scored` those that the loss is computed on. `shards` is
    over how many processes weights, gradients and optimizer are split. Then the layers that compute are whole in each
    (FSDP2 gathers one and the next, and keeps the embeddings), and where that is no GPU, so is the model while it is
    loaded and while it is written.
    """
    trained = shape.parameters - shape.frozen if lora is None else shape.adapted(lora)
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


def _largest(config: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """Return the first of these sizes that a config states; the largest of one that differs by layer."""
    for name in names:
        value = config.get(name)
        sizes = value if isinstance(value, list) else [value]
        if found := [int(size) for size in sizes if isinstance(size, int | float) and not isinstance(size, bool)]:
            return max(found)
    return None


def _counted(tensors: Mapping[str, Entry]) -> int:
    """Return how many layers have weights, for configs that list kinds of layers in place of a number."""
    return len({found[1] for name in tensors if (found := _LAYER.search(name))})


def _embedded(tensors: Mapping[str, Entry]) -> int | None:
    """Return how many rows the token embedding has, which old configs of multimodal models leave out."""
    rows = [entry.shape[0] for name, entry in tensors.items() if _EMBEDDING.search(name) and len(entry.shape) == 2]
    return max(rows, default=None)


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    if targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)
