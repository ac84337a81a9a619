"""TRL's SFTTrainer with our batches, losses, checkpoints and optimizer moments. Imports torch: import it late."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from star_rft.errors import TrainingError
from star_rft.files import sync, sync_folder
from star_rft.progress import OnStep
from star_rft.training.dropout import rest
from star_rft.training.forward import Forward, scored, token_nll

if TYPE_CHECKING:
    from star_rft.training.step_loss import StepLoss
if TYPE_CHECKING:
    import torch


class PlannedTrainer(SFTTrainer):
    """The loss of a step is what `step_loss` gives, over its micro-batches and all ranks, however it was cut.

    The auxiliary loss of a router is no sum over tokens: each micro-batch has its own, by its scored tokens.
    """

    # Read by TRL: compute_loss divides by the total of the step, so nothing else is to divide by the parts.
    loss_is_scaled_for_ga = True  # type: ignore[assignment]  # TRL declares None

    def __init__(
        self, step_loss: StepLoss, forward: Forward, *, resting: Sequence[torch.nn.Module] = (), **kwargs: Any
    ) -> None:
        """`resting` are modules that stay in eval mode."""
        self.step_loss: StepLoss = step_loss
        self.forward = forward
        self.resting = resting
        super().__init__(**kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, torch.Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
        """Return the micro-batches of one step and its denominators (D), the same on every rank.

        The last one is the number of scored tokens, over which the auxiliary loss of a router is averaged.
        """
        batches = list(itertools.islice(epoch_iterator, num_batches))
        parts = [torch.cat([self.step_loss.totals(batch), scored(batch)[None]]) for batch in batches]
        totals_D = torch.stack(parts).sum(dim=0).to(device)
        return batches, self.accelerator.gather(totals_D[None]).sum(dim=0)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return this micro-batch's share of the loss of the step; `num_items_in_batch` are the step's totals (D)."""
        assert isinstance(num_items_in_batch, torch.Tensor)  # from get_batch_samples; there is no evaluation
        rest(self.resting)  # Trainer puts the whole model into training before each micro-batch
        nll = token_nll(model, self.forward, inputs)
        loss = self.step_loss.loss(nll, inputs, num_items_in_batch[:-1])
        if nll.router is not None:
            loss = loss + nll.router * scored(inputs) / num_items_in_batch[-1]
        # DDP averages gradients over ranks, and the denominators count the items of all of them.
        scale: int = self.accelerator.num_processes
        return loss * scale

    def _send_telemetry(self) -> None:
        """A run reports to nobody; TRL would otherwise call home each time a trainer is made."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes a README into each checkpoint; ours are temporary."""


class Progress(TrainerCallback):
    """Tell `on_step` about every optimizer step, and stop a training whose loss is no number any more."""

    def __init__(self, tokens_of_step: Sequence[int], on_step: OnStep | None) -> None:
        self.tokens_of_step = tokens_of_step
        self.on_step = on_step
        self.since = time.perf_counter()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note when the step began, for its tokens a second."""
        self.since = time.perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass the step on; raise TrainingError for a loss that is no finite number."""
        loss = kwargs["logs"].get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of step {state.global_step} is {loss}: lower lr, or train in precision float32"
            )
        if self.on_step is not None:
            speed = self.tokens_of_step[state.global_step - 1] / (time.perf_counter() - self.since)
            self.on_step(state.global_step, state.max_steps, loss, speed, kwargs["logs"]["learning_rate"])


class WholeCheckpoints(TrainerCallback):
    """Mark each checkpoint once it is written; an unmarked one may be torn and is never resumed from."""

    def __init__(self, *, fingerprint: str, seconds_before: float, wait: Callable[[], None]) -> None:
        self.fingerprint = fingerprint
        self.wait = wait
        self.started = time.perf_counter() - seconds_before

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint as whole, when every rank has written its files."""
        self.wait()  # each rank writes files of its own
        if not state.is_world_process_zero:
            return
        note = {
            "fingerprint": self.fingerprint,
            "step": state.global_step,
            "seconds": time.perf_counter() - self.started,
        }
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", note)


class ContinueOptimizer(TrainerCallback):
    """Start with the optimizer's state of an earlier training; a resumed training has its own already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Load the earlier optimizer's state into the new one."""
        if state.global_step == 0:
            load_moments(kwargs["model"], kwargs["optimizer"], self.folder)


MARKER = "whole.json"


def mark_whole(checkpoint: Path, note: Mapping[str, Any]) -> None:
    """Mark a trainer's checkpoint, which is not written atomically, and remove the older ones."""
    sync_folder(checkpoint)
    unfinished = checkpoint / f"{MARKER}.partial"
    unfinished.write_text(json.dumps(dict(note)))
    sync(unfinished)
    unfinished.replace(checkpoint / MARKER)
    sync(checkpoint)
    for older in checkpoint.parent.glob("checkpoint-*"):
        if older != checkpoint:
            shutil.rmtree(older)


def last_whole(work_dir: Path, *, fingerprint: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest marked checkpoint of this very training and its note.

    Those that are not whole, or belong to another training, are removed.
    """
    found: list[tuple[int, Path, dict[str, Any]]] = []
    for checkpoint in sorted(work_dir.glob("checkpoint-*")):
        marker = checkpoint / MARKER
        note = json.loads(marker.read_text()) if marker.exists() else {}
        if note.get("fingerprint") == fingerprint:
            found.append((note["step"], checkpoint, note))
        else:
            shutil.rmtree(checkpoint)
    newest = max(found, default=None, key=lambda entry: entry[0])
    return None if newest is None else newest[1:]


def refuse_foreign(work_dir: Path) -> None:
    """Raise TrainingError where the folder, which will be removed, holds more than such checkpoints."""
    foreign = [path.name for path in sorted(work_dir.glob("*")) if not path.name.startswith("checkpoint-")]
    if foreign:
        raise TrainingError(f"work_dir {work_dir} holds {foreign[0]}: give training a folder of its own")


# Not *.safetensors: engines load every such file of a folder as weights.
OPTIMIZER = "optimizer.pt"


def moments_fingerprint(folder: Path) -> str:
    """Return 16 hex digits of the optimizer's state in a folder; raise TrainingError where there is none."""
    file = folder / OPTIMIZER
    if not file.is_file():
        raise TrainingError(f"optimizer_from {folder} holds no {OPTIMIZER}: it is written with save_optimizer")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def gathered_moments(trainer: PlannedTrainer) -> dict[str, Any]:
    """Return the state of each parameter under its name, on the CPU; learning rates and schedule are not in it.

    Every rank calls it, for each may hold a shard; only the first one gets the state.
    """
    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    names = _names(model, optimizer)
    state: dict[str, dict[str, torch.Tensor]] = {}
    for parameter, name in names.items():
        entries = {key: _whole(value).cpu() for key, value in optimizer.state.get(parameter, {}).items()}
        if entries and trainer.is_world_process_zero():
            state[name] = entries
    return {"shapes": _shapes(names), "state": state}


def save_moments(content: dict[str, Any], folder: Path) -> None:
    """Write the optimizer's state of `gathered_moments` into a folder."""
    import torch

    torch.save(content, folder / OPTIMIZER)


def load_moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Give a fresh optimizer the state that `save` wrote; raise TrainingError where that is of another model."""
    import torch

    saved = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True, mmap=True)
    names = _names(model, optimizer)
    if saved["shapes"] != _shapes(names):
        raise TrainingError(f"optimizer_from {folder} is of another model: its parameters differ in name or shape")
    fresh: dict[str, Any] = optimizer.state_dict()
    numbers = [number for group in fresh["param_groups"] for number in group["params"]]
    state = {
        number: {key: _shard(value, of=parameter) for key, value in saved["state"][name].items()}
        for number, (parameter, name) in zip(numbers, names.items(), strict=True)
        if name in saved["state"]
    }
    optimizer.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})


def _whole(value: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def _shard(value: torch.Tensor, *, of: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of what belongs to a parameter, sharded as that is; a count of steps is whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(of, DTensor) or value.shape != of.shape:
        return value
    return distribute_tensor(value.to(of.device), of.device_mesh, of.placements)


def _names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, str]:
    """Return the name of each parameter that the optimizer has, in its order."""
    name_of: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {parameter: name_of[parameter] for group in optimizer.param_groups for parameter in group["params"]}


def _shapes(names: dict[torch.Tensor, str]) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for parameter, name in names.items()}
