"""Trains a model by a loss and writes the checkpoint, whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from star_rft import models
from star_rft.errors import TrainingError
from star_rft.files import whole_folder
from star_rft.models import ModelSpec, without_bars
from star_rft.models.limits import text_config
from star_rft.progress import OnStep
from star_rft.training import memory, sharding
from star_rft.training.arguments import adapter_errors, peft_config, trainer_arguments
from star_rft.training.batching import Plan, Size, heaviest, largest_row, make_plan
from star_rft.training.model import LoadedModel, LoadOptions, apply_liger, load_for_training, save_model
from star_rft.training.options import FitReport, Say, TrainingOptions
from star_rft.training.step_loss import Collate, StepLoss
from star_rft.training.trainer import gathered_moments, last_whole, moments_fingerprint, refuse_foreign, save_moments
from star_rft.types import digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.probe import Wish
    from star_rft.training.publication import Publication
    from star_rft.training.trainer import PlannedTrainer

REPORT = "fit.json"


def run(
    step_loss: StepLoss,
    options: TrainingOptions,
    *,
    dropped: int,
    model: ModelSpec,
    out_dir: Path,
    work_dir: Path,
    on_step: OnStep | None,
    say: Say | None,
) -> FitReport:
    """Train and write the model to `out_dir`, or return the report of the same training done before."""
    continued = _continuation(options)
    _check_copy(options.weights_from, model.path)
    weights = models.fingerprint(options.weights_from or model.path)
    fingerprint = digest(options.deciding(), step_loss.content(), weights, *continued)
    if (finished := _finished(out_dir, fingerprint)) is not None:
        shutil.rmtree(work_dir, ignore_errors=True)
        return finished
    refuse_foreign(work_dir)
    with without_bars():
        trainer, plan, files = make_trainer(step_loss, options, model, work_dir, say=say)
        began = options.optimizer_from
        seconds = _train(trainer, plan, work_dir, fingerprint=fingerprint, optimizer_from=began, on_step=on_step)
        report = _report(trainer, plan, examples=len(step_loss.sizes), dropped=dropped, seconds=seconds)
        shared = {"processes": trainer.accelerator.num_processes, "is_sharded": bool(trainer.is_fsdp_enabled)}
        note = {"fingerprint": fingerprint, "report": asdict(report), **shared}
        _write(trainer, out_dir, note, files=files, options=options)
        if trainer.is_world_process_zero():
            shutil.rmtree(work_dir, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
    return report


def _write(
    trainer: PlannedTrainer,
    out_dir: Path,
    note: Mapping[str, object],
    *,
    files: Publication,
    options: TrainingOptions,
) -> None:
    """Write the model and the note about it. Every rank gives its shards, and the first one writes.

    The float32 weights come first: with `out_dir` the training is finished.
    """
    model = sharding.whole_model(trainer)
    moments = gathered_moments(trainer) if options.save_optimizer else None
    if model is None:
        return
    with whole_folder(out_dir) as folder:
        if moments is not None:
            save_moments(moments, folder)
        if options.lora is not None:  # the adapters are merged, and kept beside the weights
            model.save_pretrained(folder / "adapter")
            model = model.merge_and_unload()
        save = partial(save_model, model, trainer.processing_class, files=files, ends=options.end_ids)
        if options.float32_dir is not None and files.dtype != "float32":
            shutil.rmtree(options.float32_dir, ignore_errors=True)
            with whole_folder(options.float32_dir) as kept:
                save(kept, dtype="float32")
                (kept / REPORT).write_text(json.dumps(note, indent=1))
        save(folder, dtype=files.dtype)
        (folder / REPORT).write_text(json.dumps(note, indent=1))


def _continuation(options: TrainingOptions) -> list[object]:
    """Return what the fingerprint says of the optimizer's state: nothing where none is read or written."""
    if options.optimizer_from is None and not options.save_optimizer:
        return []
    if options.lora is not None:
        raise TrainingError(
            "optimizer_from and save_optimizer go with full fine-tuning: with lora each training starts new "
            "adapters, which an earlier optimizer knows nothing of"
        )
    began = options.optimizer_from
    return [None if began is None else moments_fingerprint(began), options.save_optimizer]


def _check_copy(weights_from: Path | None, model_path: str | Path) -> None:
    """Raise TrainingError for float32 weights that another training wrote than the published ones."""
    if weights_from is None:
        return
    notes = [folder / REPORT for folder in (weights_from, Path(model_path))]
    found = [json.loads(note.read_text())["fingerprint"] for note in notes if note.is_file()]
    if len(found) < 2 or len(set(found)) > 1:
        raise TrainingError(f"{weights_from} does not hold the float32 weights of {model_path}: remove it")


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
    step_loss: StepLoss, options: TrainingOptions, model: ModelSpec, work_dir: Path, *, say: Say | None = None
) -> tuple[PlannedTrainer, Plan, Publication]:
    """Load the model, find out what its forward can do, and plan the training by that."""
    from accelerate.utils import gather_object
    from transformers.utils.import_utils import is_flash_attn_2_available

    config = trainer_arguments(options, work_dir, use_cpu=not _has_gpu(model.device))
    # flash-attention is what keeps packed sequences apart at no cost; it computes in bfloat16 only.
    flash = config.device.type == "cuda" and bool(config.bf16) and is_flash_attn_2_available()
    sizes = step_loss.sizes

    @lru_cache
    def plan_of(packed: bool) -> Plan:
        plan = make_plan(sizes, options, device=config.device.type, ranks=config.world_size, packed=packed)
        folder, heavy = models.folder_of(model.path), heaviest(plan.rows, sizes, packed=packed)
        _check_memory(folder, heavy, options, config, say)
        return plan

    wanted = flash if options.packing == "auto" else bool(options.packing)
    loading = LoadOptions(
        wish=_wish(options, config, plan_of(wanted).rows if wanted else (), sizes),
        highest=step_loss.highest_token,
        # Where a process holds a shard only, the whole model is never on its accelerator.
        device=config.device if sharding.shards(config.world_size) == 1 else models.device_of("cpu"),
        flash=flash,
        packing=options.packing,
        save_dtype=options.save_dtype,
        say=say,
    )
    bare = replace(loading, say=None, wish=replace(loading.wish, router_loss=False))
    collate = step_loss.collator(
        lambda packed: plan_of(packed).rows, load=lambda spec: load_for_training(spec, bare), config=config
    )
    sharding.on_cpus_too()
    loaded = load_for_training(model, loading, weights_from=options.weights_from)
    packed = all(gather_object([loaded.forward.packs]))
    plan = plan_of(packed)
    trainer = _trainer(step_loss, options, loaded, plan, config, replace(collate, packed=packed))
    return trainer, plan, loaded.published


def _trainer(
    step_loss: StepLoss, options: TrainingOptions, loaded: LoadedModel, plan: Plan, config: SFTConfig, collate: Collate
) -> PlannedTrainer:
    """Put the trainer around a loaded model: its steps as planned, what rests, and adapters."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from star_rft.training.dropout import switch_off
    from star_rft.training.probe import check_adapters
    from star_rft.training.trainer import PlannedTrainer

    model, forward = loaded.model, loaded.forward
    config.gradient_accumulation_steps = plan.parts
    config.max_steps = len(plan.tokens_of_step)
    # The first step of a warm-up has the rate 0: a training of one step would not train.
    config.warmup_steps = min(math.ceil(options.warmup_ratio * config.max_steps), config.max_steps - 1)
    resting: Sequence[torch.nn.Module] = ()
    if not step_loss.has_own_dropout:
        resting = switch_off(model, forward, checkpoints=options.gradient_checkpointing)
    apply_liger(model, wanted=options.liger, device=config.device.type)
    adapters = None if options.lora is None else peft_config(options.lora, model)
    _check_support(model, options)
    if text_config(model.config) is not model.config:
        # The vision part of a multimodal model has no gradient where all is text, which DDP has to know.
        config.ddp_find_unused_parameters = True
    with adapter_errors(options.lora):
        trainer = PlannedTrainer(
            step_loss,
            forward,
            resting=resting,
            model=model,
            args=config,
            train_dataset=Dataset.from_dict({"members": plan.rows}),
            data_collator=collate,
            processing_class=loaded.tokenizer,
            peft_config=adapters,
        )
    if options.lora is not None:
        check_adapters(trainer.model)
    trainer.remove_callback(PrinterCallback)
    sharding.sum_in_float32(trainer)
    return trainer


def _check_support(model: PreTrainedModel, options: TrainingOptions) -> None:
    if options.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"{type(model).__name__} has no gradient checkpointing: set gradient_checkpointing to false"
        )


def _wish(options: TrainingOptions, config: SFTConfig, rows: Sequence[Sequence[int]], sizes: Sequence[Size]) -> Wish:
    """Return what the model's forward is tried for; `rows` are packed ones, none where nothing is to be packed."""
    from star_rft.training.forward import FUSED_HEAD_DEVICES
    from star_rft.training.probe import Wish

    return Wish(
        is_fused=config.device.type in FUSED_HEAD_DEVICES,
        router_loss=options.router_loss,
        lengths=largest_row(rows, sizes) if rows else (),
    )


def _check_memory(
    model: Path, micro_batch: tuple[int, int], options: TrainingOptions, config: SFTConfig, say: Say | None
) -> None:
    """Raise TrainingError where the training cannot fit, for a model whose shape stands in its folder."""
    if (shape := memory.shape_of(model)) is None:
        return
    need = memory.estimate(
        shape,
        tokens=micro_batch[0],
        scored=micro_batch[1],
        lora=options.lora,
        gradient_checkpointing=options.gradient_checkpointing,
        is_bf16=bool(config.bf16),
        on_gpu=config.device.type == "cuda",
        shards=sharding.shards(config.world_size),
    )
    free, where = memory.free_memory(config.device)
    memory.check(need, free, where=where, say=say)


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
