"""The loss and the gradient of one optimizer step of Trainer, to compare with those of a formula."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from star_rft.models.spec import ModelSpec
from star_rft.training.fit import make_trainer
from star_rft.training.options import TrainingOptions
from star_rft.training.sft import WeightedNll
from star_rft.types import Example

Gradients = dict[str, torch.Tensor]


def options(**changes: Any) -> TrainingOptions:
    """The options of one plain step, without clipping or decay of weights."""
    values: dict[str, Any] = {
        "lr": 1e-3, "epochs": None, "max_steps": 1, "batch_size": 12, "micro_batch_size": None,
        "max_tokens": 100, "schedule": "constant", "warmup_ratio": 0.0, "weight_decay": 0.0,
        "max_grad_norm": 1e9, "precision": "float32", "lora": None, "gradient_checkpointing": False,
        "packing": False, "seed": 0, "save_dtype": "float32",
    }  # fmt: skip
    return TrainingOptions(**{**values, **changes})


def gradients_of(model: torch.nn.Module) -> Gradients:
    """Copies of the gradients of the parameters that have one."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class GradientCopy(TrainerCallback):
    """Copy of the gradients before the optimizer takes its step."""

    def __init__(self) -> None:
        self.gradients: Gradients = {}

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.gradients = gradients_of(kwargs["model"])


def step_of(trainer: Trainer) -> tuple[float, Gradients]:
    """Let a trainer take its one optimizer step; return its loss and gradient."""
    copy = GradientCopy()
    trainer.add_callback(copy)
    trainer.train()
    assert copy.gradients
    return trainer.state.log_history[0]["loss"], copy.gradients


def sft_step(examples: Sequence[Example], folder: Path, work: Path, **changes: Any) -> tuple[float, Gradients]:
    """Let Trainer take one optimizer step over all examples; return its loss and gradient."""
    model = ModelSpec(folder, device="cpu")
    trainer, _, _ = make_trainer(WeightedNll(examples), options(batch_size=len(examples), **changes), model, work)
    return step_of(trainer)
