"""Options and reports of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

# Takes one line that a user should read.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters. `target_modules`: "all-linear", a regular expression, or ends of module names."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was trained on. `tokens` counts prompts and completions over all steps, without padding.

    Of preferences, `examples` counts the preferences and `dropped_too_long` their completions.
    """

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    loss_first: float
    loss_last: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a model is trained: all that is the same for supervised and for preference training.

    Attributes:
        lr: The highest learning rate.
        epochs: How often each example is seen; a fraction is possible.
        max_steps: Optimizer steps; overrides `epochs`.
        batch_size: Examples that an optimizer step sees, over all ranks.
        micro_batch_size: Examples in a forward pass, on average; None: as many as have about the number of tokens that
            is fastest on the device.
        max_tokens: Longer examples are left out and counted, never cut: a cut example has no end. So are those that
            are longer than the model takes.
        schedule: Course of the learning rate after the warm-up.
        warmup_ratio: Share of the steps in which the learning rate rises from 0.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients of a larger norm are scaled down to it.
        precision: Of the computation (auto: bfloat16 on a GPU). Master weights are float32.
        lora: Trains adapters instead of the weights. The merged model is written, and the adapter in its folder
            `adapter/`.
        gradient_checkpointing: Computes activations again in the backward pass instead of keeping them.
        packing: Puts several examples into one row. auto: on a GPU with flash-attention; elsewhere examples of like
            length are padded. A model that does not keep packed sequences apart is never packed.
        liger: Uses the kernels of liger-kernel. auto: where they are installed and run.
        router_loss: Trains a mixture of experts with its router's auxiliary loss too, if its config has one.
        seed: Of the order of examples, of dropout and of new adapters.
        save_dtype: Of the written weights (auto: what the starting model was published in).
        end_ids: Token ids that completions end with; the written generation config lists them all.
        weights_from: A folder of `float32_dir` of an earlier training, to start from; the model's path is then its
            published form. Rounded to bfloat16 between trainings, small updates would be lost.
        float32_dir: Where a copy of the weights in float32 is written, if `save_dtype` has fewer bits.
        save_steps: Steps between checkpoints, from which a training that was interrupted continues; None: none.
        optimizer_from: An earlier output folder whose optimizer state this training starts with; schedule and data are
            its own. Not with `lora`.
        save_optimizer: Writes the optimizer's state beside the weights. Not with `lora`.
    """

    lr: float
    epochs: float | None = 1.0
    max_steps: int | None = None
    batch_size: int = 32
    micro_batch_size: int | None = None
    max_tokens: int = 2048
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    lora: LoraSpec | None = None
    gradient_checkpointing: bool = False
    packing: Literal["auto"] | bool = "auto"
    liger: Literal["auto"] | bool = "auto"
    router_loss: bool = True
    seed: int = 0
    save_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    end_ids: Sequence[int] = ()
    weights_from: Path | None = None
    float32_dir: Path | None = None
    save_steps: int | None = None
    optimizer_from: Path | None = None
    save_optimizer: bool = False

    def deciding(self) -> dict[str, Any]:
        """Return the options that decide the trained weights, by name; the weights' own origin is not among them."""
        options = {name: value for name, value in asdict(self).items() if name not in _NOT_DECIDING}
        # 2 epochs are 2.0 epochs: the same training, however the number was written.
        if self.lora is not None:
            options["lora"]["dropout"] = float(self.lora.dropout)
        return options | {name: float(options[name]) for name in _FLOATS if options[name] is not None}


_FLOATS = ("lr", "epochs", "warmup_ratio", "weight_decay", "max_grad_norm")
# `weights_from` and `optimizer_from` decide too: a training's fingerprint covers what these folders hold.
_NOT_DECIDING = ("end_ids", "weights_from", "float32_dir", "save_steps", "optimizer_from", "save_optimizer")
