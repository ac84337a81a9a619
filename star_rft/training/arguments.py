"""The arguments of TRL's SFTTrainer and of peft for a training."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import TrainingError
from star_rft.models.errors import first_line
from star_rft.training.options import LoraSpec, TrainingOptions

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel
    from trl.trainer.sft_config import SFTConfig


def trainer_arguments(options: TrainingOptions, work_dir: Path, *, use_cpu: bool) -> SFTConfig:
    """Return TRL's config: one row of the plan at a time, in order, prepared by us; log every step."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    # Newer versions of transformers call it so, and warn of the other name.
    is_renamed = any(field.name == "activation_checkpointing" for field in fields(SFTConfig))
    name = "activation_checkpointing" if is_renamed else "gradient_checkpointing"
    checkpointing: dict[str, Any] = {name: options.gradient_checkpointing}
    on_cuda = torch.cuda.is_available() and not use_cpu
    bf16 = options.precision == "bfloat16" or (
        options.precision == "auto" and on_cuda and torch.cuda.is_bf16_supported()
    )
    has_warmup = options.schedule == "constant" and options.warmup_ratio > 0
    return SFTConfig(
        output_dir=str(work_dir),
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        learning_rate=options.lr,
        lr_scheduler_type="constant_with_warmup" if has_warmup else options.schedule,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        bf16=bf16,
        **checkpointing,
        # Ours is added to the loss of each micro-batch, with the weight that the micro-batch has in its step.
        router_aux_loss_coef=0.0,
        seed=options.seed,
        use_cpu=use_cpu,
        dataloader_pin_memory=on_cuda,
        logging_steps=1,
        # It would replace a loss that is no number by the mean of the others.
        logging_nan_inf_filter=False,
        save_strategy="no" if options.save_steps is None else "steps",
        save_steps=options.save_steps or 1,
        report_to=[],  # the run's own trackers are told of each step
        disable_tqdm=True,
    )


def peft_config(lora: LoraSpec, model: PreTrainedModel) -> PeftConfig:
    """Return the adapters as peft takes them. Raises TrainingError for a target that cannot have one."""
    from peft import LoraConfig

    from star_rft.training.probe import routers

    tuples = routers(model)
    if lora.target_modules != "all-linear":
        _check_target_modules(model, lora.target_modules, tuples)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
        exclude_modules=[*tuples, *_frozen(model)] or None,
        task_type="CAUSAL_LM",
    )


def _frozen(model: PreTrainedModel) -> list[str]:
    """Return the linear modules of images and sound, which text does not pass: an adapter there would never train."""
    import torch

    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return [name for name, module in linear.items() if not module.weight.requires_grad]


@contextmanager
def without_adapter_warnings() -> Iterator[None]:
    """Leave out what peft warns of while it puts adapters into a model and what nobody can change."""
    with warnings.catch_warnings():
        # peft translates "all-linear" for fused experts, whose ranks it finds at parameters and not at modules.
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        # peft asks the model by a name that newer versions of transformers have changed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def adapter_errors(lora: LoraSpec | None) -> Iterator[None]:
    """Raise TrainingError for what peft and TRL say of adapters that an architecture cannot have."""
    with without_adapter_warnings():
        try:
            yield
        except ValueError as error:
            if lora is None:
                raise
            raise TrainingError(f"lora: {first_line(error)}: name others in lora.target_modules") from error


def _check_target_modules(model: PreTrainedModel, target_modules: str | Sequence[str], without: Sequence[str]) -> None:
    """Raise TrainingError for a LoRA target that no module of the model answers to, or one that takes no adapter."""
    names = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    is_pattern = isinstance(target_modules, str)
    for target in [target_modules] if isinstance(target_modules, str) else target_modules:
        found = [
            name
            for name in names
            if (re.fullmatch(target, name) if is_pattern else name == target or name.endswith(f".{target}"))
        ]
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in names})
            raise TrainingError(
                f"lora.target_modules: no module of the model is named {target!r}; "
                f"it has {', '.join(ends)} (or use 'all-linear')"
            )
        if refused := sorted(set(found) & set(without)):
            raise TrainingError(
                f"lora.target_modules: {target!r} is {refused[0]}, a router, which no adapter can be put around: "
                "leave it out"
            )
