"""Helpers for models that are sharded over ranks."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from star_rft.training.trainer import PlannedTrainer


def on_cpus_too() -> None:
    """Have accelerate shard over the processes of a CPU as it does over GPUs, where its config asks for FSDP.

    accelerate (1.15) reads an FSDP config for the kinds of accelerators alone, and would fall back to DDP without a
    word; torch itself shards on a CPU. Call it between the training arguments, which start the process group, and the
    trainer: the state that it makes then says FSDP, as on a GPU.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    state = PartialState()
    if _is_asked() and state.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU


def shards(ranks: int) -> int:
    """Return over how many processes weights, gradients and optimizer are split."""
    return ranks if _is_asked() else 1


def sum_in_float32(trainer: PlannedTrainer) -> None:
    """Have sharded ranks exchange weights in the precision of the computation, but sum gradients in float32.

    accelerate's policy for bf16 would also sum gradients over ranks in bf16, and round the log-probabilities that the
    model returns to it. Call it before the trainer shards the model.
    """
    import torch

    plugin = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
    if plugin is not None and plugin.fsdp_version == 2 and plugin.mixed_precision_policy is not None:
        policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None)
        plugin.mixed_precision_policy = policy


def shape(trainer: PlannedTrainer) -> str:
    """Return what a trainer's checkpoint depends on besides the training: nothing for one rank."""
    ranks: int = trainer.accelerator.num_processes
    return f"-{ranks}-{trainer.accelerator.distributed_type.value.lower()}" if ranks > 1 else ""


def whole_model(trainer: PlannedTrainer) -> Any:
    """Return the trained model with all its weights, on the first rank; None on the others. Every rank calls it."""
    is_first = trainer.is_world_process_zero()
    if not trainer.is_fsdp_enabled:
        return trainer.model if is_first else None
    weights: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model)
    return _rebuilt(trainer.model, weights) if is_first else None


def _rebuilt(sharded: Any, weights: dict[str, Any]) -> Any:
    """Return a plain model like a sharded one; it takes the weights as they are, so that they lie in memory once."""
    import torch
    from peft import PeftModel, get_peft_model
    from torch.distributed.fsdp import FSDPModule

    from star_rft.training.arguments import without_adapter_warnings

    plain = sharded.get_base_model() if isinstance(sharded, PeftModel) else sharded
    # Sharding changed its class into one that inherits from it.
    kind: Any = next(k for k in type(plain).__mro__ if not issubclass(k, FSDPModule))
    with torch.device("meta"):
        model: Any = kind(plain.config)
        if isinstance(sharded, PeftModel):
            with without_adapter_warnings():
                model = get_peft_model(model, sharded.peft_config["default"])
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    return model


def _is_asked() -> bool:
    """Whether accelerate's config, which its launcher hands on in the environment, asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
