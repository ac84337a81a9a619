"""From an objective to a checkpoint, whole or not at all: what every kind of training shares."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from star_rft import models
from star_rft.files import whole_folder
from star_rft.models import without_bars
from star_rft.progress import OnStep
from star_rft.training import liger, memory, optimizer, sharding
from star_rft.training.batches import Size, heaviest
from star_rft.training.checkpoints import last_whole, refuse_foreign
from star_rft.training.errors import TrainingError
from star_rft.training.models import Loaded, check_target_modules, load_for_training, save_model
from star_rft.training.plan import Plan, make_plan
from star_rft.training.settings import FitReport, LoraSpec, Running, Say, Settings
from star_rft.types import digest

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import GenerationConfig, PreTrainedModel
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.trainer import PlannedTrainer

    Batch = dict[str, torch.Tensor]
    Collate = Callable[[Iterable[Mapping[str, Sequence[int]]]], Batch]
    Load = Callable[[str | Path], Loaded]

REPORT = "fit.json"


class Objective(Protocol):
    """Items to train on, and their loss: a sum over the items of a step, divided by totals of the step."""

    @property
    def sizes(self) -> Sequence[Size]:
        """What each item takes of a micro-batch."""
        ...

    @property
    def highest_token(self) -> int: ...

    def content(self) -> object:
        """Return what the fingerprint of the training covers, besides its settings and its model."""
        ...

    def collator(self, rows: Sequence[Sequence[int]], *, load: Load, config: SFTConfig, packed: bool) -> Collate:
        """Return what makes micro-batches of rows `{"members": [items]}`; called before the policy is loaded."""
        ...

    def adjust(self, model: PreTrainedModel) -> None:
        """Change the policy before it is trained."""
        ...

    def totals(self, batch: Batch) -> torch.Tensor:
        """Return a micro-batch's share of the denominators."""
        ...

    def loss(self, model: torch.nn.Module, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """Return a micro-batch's share of the loss, by the denominators of the step."""
        ...


def run(
    objective: Objective,
    settings: Settings,
    around: Running,
    *,
    dropped: int,
    model_path: str | Path,
    out_dir: Path,
    work_dir: Path,
) -> FitReport:
    """Train and write the model to `out_dir`, or return the report of the same training done before."""
    continued = _continuation(settings, around.optimizer_from, save_optimizer=around.save_optimizer)
    fingerprint = digest(asdict(settings), objective.content(), models.fingerprint(model_path), *continued)
    if (finished := _finished(out_dir, fingerprint)) is not None:
        shutil.rmtree(work_dir, ignore_errors=True)
        return finished
    refuse_foreign(work_dir)
    with without_bars():
        trainer, plan, generation = make_trainer(
            objective,
            settings,
            model_path,
            work_dir,
            use_cpu=not _has_gpu(around.device),
            save_steps=around.save_steps,
            report_to=around.report_to,
            trust_remote_code=around.trust_remote_code,
            say=around.say,
        )
        began, on_step = around.optimizer_from, around.on_step
        seconds = _train(trainer, plan, work_dir, fingerprint=fingerprint, optimizer_from=began, on_step=on_step)
        report = _report(trainer, plan, examples=len(objective.sizes), dropped=dropped, seconds=seconds)
        shared = {"processes": trainer.accelerator.num_processes, "is_sharded": bool(trainer.is_fsdp_enabled)}
        note = {"fingerprint": fingerprint, "report": asdict(report), **shared}
        _write(trainer, out_dir, note, settings=settings, around=around, generation=generation)
        if trainer.is_world_process_zero():
            shutil.rmtree(work_dir, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
    return report


def _write(
    trainer: PlannedTrainer,
    out_dir: Path,
    note: Mapping[str, object],
    *,
    settings: Settings,
    around: Running,
    generation: GenerationConfig,
) -> None:
    """Write the model and the note about it. Every rank gives its shards, and the first one writes."""
    model = sharding.whole_model(trainer, trust_remote_code=around.trust_remote_code)
    moments = optimizer.gathered(trainer) if around.save_optimizer else None
    if model is None:
        return
    with whole_folder(out_dir) as folder:
        if moments is not None:
            optimizer.save(moments, folder)
        save_model(
            model,
            trainer.processing_class,
            folder,
            generation=generation,
            dtype=settings.save_dtype,
            is_lora=settings.lora is not None,
        )
        (folder / REPORT).write_text(json.dumps(note, indent=1))


def _continuation(settings: Settings, optimizer_from: Path | None, *, save_optimizer: bool) -> list[object]:
    """Return what the fingerprint says of the optimizer: nothing where it neither comes from nor goes anywhere."""
    if optimizer_from is None and not save_optimizer:
        return []
    if settings.lora is not None:
        raise TrainingError(
            "optimizer_from and save_optimizer go with full fine-tuning: with lora each training starts new "
            "adapters, which an earlier optimizer knows nothing of"
        )
    return [None if optimizer_from is None else optimizer.fingerprint(optimizer_from), save_optimizer]


def _has_gpu(device: str) -> bool:
    """Whether to train on the accelerator, of which each process sees one."""
    import torch

    if device not in ("auto", "cpu") and torch.device(device).type not in ("cuda", "xpu", "mps"):
        raise TrainingError(f"device {device!r} is unknown: use auto, cpu or cuda")
    is_there = torch.accelerator.is_available()
    if device not in ("auto", "cpu") and not is_there:
        raise TrainingError(f"device {device!r}: this machine, or this build of torch, has no such device")
    return is_there and device != "cpu"


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


def make_trainer(
    objective: Objective,
    settings: Settings,
    model_path: str | Path,
    work_dir: Path,
    *,
    use_cpu: bool,
    save_steps: int | None,
    report_to: Sequence[str],
    trust_remote_code: bool,
    say: Say | None = None,
) -> tuple[PlannedTrainer, Plan, GenerationConfig]:
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.utils.import_utils import is_flash_attn_2_available

    from star_rft.training.trainer import PlannedTrainer

    config = _config(settings, work_dir, use_cpu=use_cpu, save_steps=save_steps, report_to=report_to)
    # flash-attention is what keeps packed sequences apart at no cost; it computes in bfloat16 only.
    flash = config.device.type == "cuda" and bool(config.bf16) and is_flash_attn_2_available()
    packed = flash if settings.packing == "auto" else bool(settings.packing)
    plan = make_plan(objective.sizes, settings, device=config.device.type, ranks=config.world_size, packed=packed)
    _check_memory(
        models.folder_of(model_path), heaviest(plan.rows, objective.sizes, packed=packed), settings, config, say
    )
    config.gradient_accumulation_steps = plan.parts
    config.max_steps = len(plan.tokens_of_step)
    # The first step of a warm-up has the rate 0: a training of one step would not train.
    config.warmup_steps = min(math.ceil(settings.warmup_ratio * config.max_steps), config.max_steps - 1)
    load = partial(
        load_for_training, trust_remote_code=trust_remote_code, flash=packed and flash, highest=objective.highest_token
    )
    collate = objective.collator(plan.rows, load=load, config=config, packed=packed)
    sharding.on_cpus_too()
    model, tokenizer, generation = load(model_path)
    objective.adjust(model)
    liger.apply(model, wanted=settings.liger, device=config.device.type)
    trainer = PlannedTrainer(
        objective,
        model=model,
        args=config,
        train_dataset=Dataset.from_dict({"members": plan.rows}),
        data_collator=collate,
        processing_class=tokenizer,
        peft_config=None if settings.lora is None else _peft_config(settings.lora, model),
    )
    trainer.remove_callback(PrinterCallback)
    sharding.sum_in_float32(trainer)
    return trainer, plan, generation


def _check_memory(
    model: Path, micro_batch: tuple[int, int], settings: Settings, config: SFTConfig, say: Say | None
) -> None:
    """Raise TrainingError where the training cannot fit, for a model whose shape stands in its folder."""
    if (shape := memory.shape_of(model)) is None:
        return
    need = memory.estimate(
        shape,
        tokens=micro_batch[0],
        scored=micro_batch[1],
        lora=settings.lora,
        gradient_checkpointing=settings.gradient_checkpointing,
        is_bf16=bool(config.bf16),
        on_gpu=config.device.type == "cuda",
        shards=sharding.shards(config.world_size),
    )
    free, where = memory.free_memory(config.device)
    memory.check(need, free, where=where, say=say)


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
    trainer: PlannedTrainer,
    plan: Plan,
    work_dir: Path,
    *,
    fingerprint: str,
    optimizer_from: Path | None,
    on_step: OnStep | None,
) -> float:
    """Run or continue the training; return the seconds that it took, those before a crash included."""
    from star_rft.training.trainer import ContinueOptimizer, Progress, WholeCheckpoints

    # Another number of ranks writes other files, and draws other random numbers in each.
    fingerprint = f"{fingerprint}{sharding.shape(trainer)}"
    with trainer.accelerator.main_process_first():
        checkpoint, note = last_whole(work_dir, fingerprint=fingerprint) or (None, {"seconds": 0.0})
    wait = trainer.accelerator.wait_for_everyone
    checkpoints = WholeCheckpoints(fingerprint=fingerprint, seconds_before=note["seconds"], wait=wait)
    trainer.add_callback(checkpoints)
    trainer.add_callback(Progress(plan.tokens_of_step, on_step))
    if optimizer_from is not None:
        trainer.add_callback(ContinueOptimizer(optimizer_from))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return time.perf_counter() - checkpoints.started


def _report(trainer: PlannedTrainer, plan: Plan, *, examples: int, dropped: int, seconds: float) -> FitReport:
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
