"""TRL's SFTTrainer with our batches and losses. Imports torch, transformers and TRL: import it late."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from star_rft.errors import TrainingError
from star_rft.progress import OnStep
from star_rft.training import optimizer
from star_rft.training.checkpoints import mark_whole
from star_rft.training.dropout import rest
from star_rft.training.forward import Forward, scored, token_nll

if TYPE_CHECKING:
    from star_rft.training.run import Objective


class PlannedTrainer(SFTTrainer):
    """The loss of a step is that of the objective, over its micro-batches and all ranks, however it was cut.

    The auxiliary loss of a router is no sum over tokens: each micro-batch has its own, by its scored tokens.
    """

    # Read by TRL: compute_loss divides by the total of the step, so nothing else is to divide by the parts.
    loss_is_scaled_for_ga = True  # type: ignore[assignment]  # TRL declares None

    def __init__(
        self, objective: Objective, forward: Forward, *, resting: Sequence[torch.nn.Module] = (), **kwargs: Any
    ) -> None:
        """`resting` are modules that stay in eval mode."""
        self.objective: Objective = objective
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
        parts = [torch.cat([self.objective.totals(batch), scored(batch)[None]]) for batch in batches]
        totals_D = torch.stack(parts).sum(dim=0).to(device)
        return batches, self.accelerator.gather(totals_D[None]).sum(dim=0)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        assert isinstance(num_items_in_batch, torch.Tensor)  # from get_batch_samples; there is no evaluation
        rest(self.resting)  # Trainer puts the whole model into training before each micro-batch
        nll = token_nll(model, self.forward, inputs)
        loss = self.objective.loss(nll, inputs, num_items_in_batch[:-1])
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
        self.since = time.perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
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
        if state.global_step == 0:
            optimizer.load(kwargs["model"], kwargs["optimizer"], self.folder)
