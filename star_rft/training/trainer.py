"""TRL's SFTTrainer with a weight for every example. Imports torch, transformers and TRL: import it late."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from star_rft.training.batches import IGNORED
from star_rft.training.checkpoints import mark_whole
from star_rft.training.errors import TrainingError

# Where TRL's fused head, which projects the scored positions only and in tiles, runs in Triton.
FUSED_HEAD_DEVICES = ("cuda", "xpu")


class WeightedSFTTrainer(SFTTrainer):
    """The loss of a step is sum_i w_i sum_t nll_it / sum_i w_i T_i, over its micro-batches and all ranks."""

    # Read by TRL: compute_loss divides by the total of the step, so nothing else is to divide by the parts.
    loss_is_scaled_for_ga = True  # type: ignore[assignment]  # TRL declares None

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, torch.Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
        """Return the micro-batches of one step and its denominator sum_i w_i T_i, the same on every rank."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        total = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
        return batches, self.accelerator.gather(total).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        assert num_items_in_batch is not None  # from get_batch_samples; there is no evaluation
        # DDP averages gradients over ranks, and the denominator counts the tokens of all of them.
        scale: int = self.accelerator.num_processes
        return weighted_nll(model, **inputs) / num_items_in_batch * scale

    def _send_telemetry(self) -> None:
        """A run reports to nobody; TRL would otherwise call home each time a trainer is made."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes a README into each checkpoint; ours are temporary."""


def weighted_nll(
    model: torch.nn.Module,
    *,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    position_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return sum_i w_i sum_t nll_it of a micro-batch, as the one number (a 0-d tensor).

    On a CPU TRL's fused head is slower than plain logits: there it scores prompts
    too, computes the entropies that TRL logs, and projects again in the backward pass.
    """
    inputs = {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False}
    if input_ids.device.type in FUSED_HEAD_DEVICES:
        log_probs_B_S: torch.Tensor = model(**inputs, labels=labels, fused_lm_head=True).log_probs
        return -(log_probs_B_S * weights[:, 1:]).sum()
    targets_B_S, weights_B_S = labels[:, 1:], weights[:, 1:]
    # Columns where some row is scored; at least one, so that an empty batch still has a gradient (of zero).
    scored_S = (targets_B_S != IGNORED).any(dim=0)
    scored_S[-1] = True
    columns_K = scored_S.nonzero().squeeze(1)
    logits_B_K_V = model(**inputs, logits_to_keep=columns_K).logits
    targets_N = targets_B_S[:, columns_K].flatten()
    nll_N = F.cross_entropy(logits_B_K_V.flatten(0, 1).float(), targets_N, reduction="none", ignore_index=IGNORED)
    return (nll_N * weights_B_S[:, columns_K].flatten()).sum()


class Progress(TrainerCallback):
    """Tell `on_step` about every optimizer step, and stop a training whose loss is no number any more."""

    def __init__(self, tokens_of_step: Sequence[int], on_step: Callable[[int, int, float, float], None] | None) -> None:
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
            self.on_step(state.global_step, state.max_steps, loss, speed)


class WholeCheckpoints(TrainerCallback):
    """Mark each checkpoint once it is written; an unmarked one may be torn and is never resumed from."""

    def __init__(self, *, fingerprint: str, seconds_before: float) -> None:
        self.fingerprint = fingerprint
        self.started = time.perf_counter() - seconds_before

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        note = {
            "fingerprint": self.fingerprint,
            "step": state.global_step,
            "seconds": time.perf_counter() - self.started,
        }
        mark_whole(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", note)
