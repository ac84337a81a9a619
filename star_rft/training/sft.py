"""Supervised fine-tuning on weighted examples through TRL; the loss falls on completions, end included."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from star_rft import models
from star_rft.files import whole_folder
from star_rft.models import without_bars
from star_rft.training.batches import Collator, draw_steps, length, split_even
from star_rft.training.checkpoints import last_whole, refuse_foreign
from star_rft.training.errors import TrainingError
from star_rft.training.models import check_target_modules, load_for_training, save_model
from star_rft.types import Example, digest

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import GenerationConfig, PreTrainedModel
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.trainer import WeightedSFTTrainer

REPORT = "fit.json"

# About so many tokens make a micro-batch unless its size is given. On a CPU, more speed up the kernels no more
# than they add padding (benchmarks/train.py --sweep).
MICRO_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters. `target_modules`: "all-linear", a regular expression, or ends of module names."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What was trained on. `tokens` counts prompts and completions over all steps, without padding."""

    steps: int
    examples: int
    dropped_too_long: int
    tokens: int
    loss_first: float
    loss_last: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides the trained weights, besides the examples and the model."""

    lr: float
    epochs: float | None
    max_steps: int | None
    batch_size: int
    micro_batch_size: int | None
    max_tokens: int
    schedule: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    precision: str
    lora: LoraSpec | None
    gradient_checkpointing: bool
    packing: str | bool
    seed: int
    save_dtype: str


def fit(
    examples: Sequence[Example],
    *,
    model_path: str | Path,
    out_dir: Path,
    work_dir: Path,
    lr: float,
    epochs: float | None = 1.0,
    max_steps: int | None = None,
    batch_size: int = 32,
    micro_batch_size: int | None = None,
    max_tokens: int = 2048,
    schedule: Literal["cosine", "linear", "constant"] = "cosine",
    warmup_ratio: float = 0.03,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "auto",
    lora: LoraSpec | None = None,
    gradient_checkpointing: bool = False,
    packing: Literal["auto"] | bool = "auto",
    seed: int = 0,
    save_steps: int | None = None,
    save_dtype: Literal["float32", "bfloat16"] = "float32",
    trust_remote_code: bool = False,
    report_to: Sequence[str] = (),
    on_step: Callable[[int, int, float, float], None] | None = None,
) -> FitReport:
    """Train the model at `model_path` on the examples and write it to `out_dir`, whole or not at all.

    - `max_steps`, where given, overrides `epochs`, which may be a fraction. An optimizer step sees
      `batch_size` examples over all ranks, in micro-batches of `micro_batch_size` on average (default: by
      their number of tokens).
    - Examples longer than `max_tokens` are dropped and counted, never cut: a cut example has no end.
    - Master weights are float32; `precision` is that of the computation (auto: bfloat16 on a GPU).
    - `packing` auto: on a GPU with flash-attention; elsewhere, padding among neighbours in length.
    - With `lora`, the merged model is written, and the adapter beside it in `adapter/`.
    - `work_dir` is this training's own: checkpoints every `save_steps` steps; removed in the end. The same
      call again continues from the last whole checkpoint, or returns the report of a finished `out_dir`.
    - `on_step(step, steps, loss, tokens_per_second)` is called after each optimizer step.

    Raises TrainingError.
    """
    settings = Settings(
        lr=lr, epochs=epochs, max_steps=max_steps, batch_size=batch_size, micro_batch_size=micro_batch_size,
        max_tokens=max_tokens, schedule=schedule, warmup_ratio=warmup_ratio, weight_decay=weight_decay,
        max_grad_norm=max_grad_norm, precision=precision, lora=lora, packing=packing, seed=seed,
        gradient_checkpointing=gradient_checkpointing, save_dtype=save_dtype,
    )  # fmt: skip
    kept = _usable(examples, max_tokens=max_tokens)
    rows = [(e.prompt_ids, e.completion_ids, e.weight) for e in kept]
    fingerprint = digest(asdict(settings), rows, models.fingerprint(model_path))
    if (finished := _finished(out_dir, fingerprint)) is not None:
        shutil.rmtree(work_dir, ignore_errors=True)
        return finished
    refuse_foreign(work_dir)
    with without_bars():
        trainer, plan, generation = make_trainer(
            kept, settings, model_path, work_dir, use_cpu=not _has_gpu(device), save_steps=save_steps,
            report_to=report_to, trust_remote_code=trust_remote_code,
        )  # fmt: skip
        seconds = _train(trainer, plan, work_dir, fingerprint=fingerprint, on_step=on_step)
        report = _report(trainer, plan, examples=len(kept), dropped=len(examples) - len(kept), seconds=seconds)
        if trainer.is_world_process_zero():
            with whole_folder(out_dir) as folder:
                save_model(trainer, folder, generation=generation, dtype=save_dtype, is_lora=lora is not None)
                note = {"fingerprint": fingerprint, "report": asdict(report)}
                (folder / REPORT).write_text(json.dumps(note, indent=1))
            shutil.rmtree(work_dir, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
    return report


def _has_gpu(device: str) -> bool:
    """Whether to train on the accelerator, of which each process sees one."""
    import torch

    if device not in ("auto", "cpu") and torch.device(device).type not in ("cuda", "xpu", "mps"):
        raise TrainingError(f"device {device!r} is unknown: use auto, cpu or cuda")
    is_there = torch.accelerator.is_available()
    if device not in ("auto", "cpu") and not is_there:
        raise TrainingError(f"device {device!r}: this machine, or this build of torch, has no such device")
    return is_there and device != "cpu"


def _usable(examples: Sequence[Example], *, max_tokens: int) -> list[Example]:
    if not examples:
        raise TrainingError("there are no examples to train on")
    for example in examples:
        if not (math.isfinite(example.weight) and example.weight > 0):
            raise TrainingError(f"an example has weight {example.weight}: weights are positive; leave it out instead")
        if not example.completion_ids:
            raise TrainingError("an example has no completion: not even the end-of-sequence token")
    kept = [example for example in examples if length(example) <= max_tokens]
    if not kept:
        shortest = min(length(example) for example in examples)
        raise TrainingError(f"all {len(examples)} examples exceed max_tokens={max_tokens}; the shortest has {shortest}")
    return kept


def _finished(out_dir: Path, fingerprint: str) -> FitReport | None:
    """Return the report of a checkpoint that this very training wrote before."""
    if not out_dir.exists() or not any(out_dir.iterdir()):
        return None
    if not (out_dir / REPORT).exists():
        raise TrainingError(f"out_dir {out_dir} exists, and not from a training: remove it or name another")
    note = json.loads((out_dir / REPORT).read_text())
    if note["fingerprint"] != fingerprint:
        raise TrainingError(
            f"out_dir {out_dir} is from another model, other examples or settings: remove it or name another"
        )
    return FitReport(**note["report"])


@dataclass(frozen=True, slots=True)
class Plan:
    """Micro-batches in order, `parts` of them an optimizer step and rank."""

    rows: list[list[int]]
    parts: int
    tokens_of_step: list[int]


def make_plan(examples: Sequence[Example], settings: Settings, *, device: str, ranks: int, packed: bool) -> Plan:
    """Fix the whole course of the training: the same on every rank, and after a resume."""
    lengths = [length(example) for example in examples]
    if settings.max_steps is not None:
        draws = settings.max_steps * settings.batch_size
    elif settings.epochs is not None:
        draws = math.ceil(settings.epochs * len(examples))
    else:
        raise TrainingError("epochs and max_steps are both None: give one")
    budget = MICRO_BATCH_TOKENS.get(device, MICRO_BATCH_TOKENS["cuda"])
    size = settings.micro_batch_size or max(1, round(budget * len(lengths) / sum(lengths)))
    parts = math.ceil(min(settings.batch_size, draws) / (size * ranks)) * ranks
    steps = list(draw_steps(len(examples), batch_size=settings.batch_size, draws=draws, seed=settings.seed))
    rows = [row for step in steps for row in split_even(step, lengths, parts=parts, packed=packed)]
    return Plan(rows, parts // ranks, [sum(lengths[i] for i in step) for step in steps])


def make_trainer(
    examples: Sequence[Example],
    settings: Settings,
    model_path: str | Path,
    work_dir: Path,
    *,
    use_cpu: bool,
    save_steps: int | None,
    report_to: Sequence[str],
    trust_remote_code: bool,
) -> tuple[WeightedSFTTrainer, Plan, GenerationConfig]:
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.utils.import_utils import is_flash_attn_2_available

    from star_rft.training.trainer import WeightedSFTTrainer

    config = _config(settings, work_dir, use_cpu=use_cpu, save_steps=save_steps, report_to=report_to)
    # flash-attention is what keeps packed sequences apart at no cost; it computes in bfloat16 only.
    flash = config.device.type == "cuda" and bool(config.bf16) and is_flash_attn_2_available()
    packed = flash if settings.packing == "auto" else bool(settings.packing)
    plan = make_plan(examples, settings, device=config.device.type, ranks=config.world_size, packed=packed)
    config.gradient_accumulation_steps = plan.parts
    config.max_steps = len(plan.tokens_of_step)
    config.warmup_steps = math.ceil(settings.warmup_ratio * config.max_steps)
    model, tokenizer, generation = load_for_training(model_path, trust_remote_code=trust_remote_code)
    if packed and flash:
        model.set_attn_implementation("flash_attention_2")
    _check_vocabulary(examples, model.config.get_text_config().vocab_size)
    trainer = WeightedSFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_dict({"members": plan.rows}),
        data_collator=Collator(examples, packed),
        processing_class=tokenizer,
        peft_config=None if settings.lora is None else _peft_config(settings.lora, model),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, plan, generation


def _config(
    settings: Settings, work_dir: Path, *, use_cpu: bool, save_steps: int | None, report_to: Sequence[str]
) -> SFTConfig:
    """Return TRL's config: one row of the plan at a time, in order, prepared by us; log every step."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    on_cuda = torch.cuda.is_available() and not use_cpu
    bf16 = settings.precision == "bfloat16" or (
        settings.precision == "auto" and on_cuda and torch.cuda.is_bf16_supported()
    )
    has_warmup = settings.schedule == "constant" and settings.warmup_ratio > 0
    return SFTConfig(
        output_dir=str(work_dir),
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup" if has_warmup else settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=bf16,
        gradient_checkpointing=settings.gradient_checkpointing,
        seed=settings.seed,
        use_cpu=use_cpu,
        dataloader_pin_memory=on_cuda,
        logging_steps=1,
        # It would replace a loss that is no number by the mean of the others.
        logging_nan_inf_filter=False,
        save_strategy="no" if save_steps is None else "steps",
        save_steps=save_steps or 1,
        report_to=list(report_to),
        disable_tqdm=True,
    )


def _check_vocabulary(examples: Sequence[Example], size: int) -> None:
    largest = max(max((*example.prompt_ids, *example.completion_ids)) for example in examples)
    if largest >= size:
        raise TrainingError(
            f"an example holds token {largest} but the model has {size}: another model's tokenizer made it"
        )


def _peft_config(lora: LoraSpec, model: PreTrainedModel) -> PeftConfig:
    from peft import LoraConfig

    check_target_modules(model, lora.target_modules)
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def _train(
    trainer: WeightedSFTTrainer,
    plan: Plan,
    work_dir: Path,
    *,
    fingerprint: str,
    on_step: Callable[[int, int, float, float], None] | None,
) -> float:
    """Run or continue the training; return the seconds that it took, those before a crash included."""
    from star_rft.training.trainer import Progress, WholeCheckpoints

    with trainer.accelerator.main_process_first():
        checkpoint, note = last_whole(work_dir, fingerprint=fingerprint) or (None, {"seconds": 0.0})
    checkpoints = WholeCheckpoints(fingerprint=fingerprint, seconds_before=note["seconds"])
    trainer.add_callback(checkpoints)
    trainer.add_callback(Progress(plan.tokens_of_step, on_step))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return time.perf_counter() - checkpoints.started


def _report(trainer: WeightedSFTTrainer, plan: Plan, *, examples: int, dropped: int, seconds: float) -> FitReport:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return FitReport(
        steps=len(plan.tokens_of_step),
        examples=examples,
        dropped_too_long=dropped,
        tokens=sum(plan.tokens_of_step),
        loss_first=losses[0],
        loss_last=losses[-1],
        seconds=round(seconds, 3),
    )
