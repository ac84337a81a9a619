"""Supervised fine-tuning on weighted examples; the loss covers completions with their end token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import TrainingError
from star_rft.models.spec import ModelSpec
from star_rft.progress import OnStep
from star_rft.training.batching import Collator, Size, length
from star_rft.training.fit import run
from star_rft.training.limits import Limit, limit_of
from star_rft.training.options import FitReport, LoraSpec, Say, TrainingOptions
from star_rft.types import Example

if TYPE_CHECKING:
    import torch
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.forward import Nll
    from star_rft.training.step_loss import Batch, Load, RowsOf

__all__ = ["FitReport", "LoraSpec", "TrainingOptions", "WeightedNll", "fit"]


def fit(
    examples: Sequence[Example],
    options: TrainingOptions,
    *,
    model: ModelSpec,
    out_dir: Path,
    work_dir: Path,
    on_step: OnStep | None = None,
    say: Say | None = None,
) -> FitReport:
    """Train a model to imitate the examples and write it, whole or not at all.

    The loss of a step is sum_i w_i nll_i / sum_i w_i T_i over its examples: w_i is the weight of an example, nll_i the
    negative log-likelihood of its completion, T_i the completion's number of tokens.

    Args:
        examples: What is trained on.
        options: How.
        model: Where the training starts, and on which device it runs.
        out_dir: Where the trained model is written. The same call again returns the report of a finished one.
        work_dir: A folder of this training's own for its checkpoints, removed in the end. The same call again
            continues from the last whole checkpoint.
        on_step: Called as `on_step(step, steps, loss, tokens_per_second, learning_rate)` after each optimizer step.
        say: Called with a line that a user should read, such as why sequences are not packed.

    Returns:
        What was trained on, and for how long.

    Raises:
        TrainingError: The examples, options, model and folders do not go together, or memory does not suffice.
    """
    _check(examples)
    limit = limit_of(options.max_tokens, model)
    kept = _short(examples, limit)
    dropped = len(examples) - len(kept)
    limit.report(dropped, "examples", say)
    loss = WeightedNll(kept)
    where: Any = {"model": model, "out_dir": out_dir, "work_dir": work_dir}
    return run(loss, options, dropped=dropped, on_step=on_step, say=say, **where)


@dataclass(frozen=True, slots=True)
class WeightedNll:
    """The loss of a step is sum_i w_i sum_t nll_it / sum_i w_i T_i."""

    examples: Sequence[Example]

    @property
    def sizes(self) -> list[Size]:
        """What each example takes of a micro-batch."""
        lengths = [(length(example), len(example.completion_ids)) for example in self.examples]
        return [Size(rows=1, longest=tokens, tokens=tokens, scored=scored) for tokens, scored in lengths]

    @property
    def highest_token(self) -> int:
        """The highest token id of all examples."""
        return max(max((*example.prompt_ids, *example.completion_ids)) for example in self.examples)

    def content(self) -> object:
        """Return the examples, for the fingerprint of the training."""
        return [(e.prompt_ids, e.completion_ids, e.weight) for e in self.examples]

    has_own_dropout = True

    def collator(self, rows_of: RowsOf, *, load: Load, config: SFTConfig) -> Collator:
        """Return what makes padded micro-batches."""
        return Collator(self.examples, packed=False)

    def totals(self, batch: Batch) -> torch.Tensor:
        """Return the weighted number of scored tokens of a micro-batch (1)."""
        return batch["weights"].sum()[None]

    def loss(self, nll: Nll, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """Return a micro-batch's share of the loss of the step."""
        from star_rft.training.losses import weighted_nll

        return weighted_nll(nll, weights=batch["weights"]) / totals[0]


def _check(examples: Sequence[Example]) -> None:
    if not examples:
        raise TrainingError("there are no examples to train on")
    for example in examples:
        if not (math.isfinite(example.weight) and example.weight > 0):
            raise TrainingError(f"an example has weight {example.weight}: weights are positive; leave it out instead")
        if not example.completion_ids:
            raise TrainingError("an example has no completion: not even the end-of-sequence token")


def _short(examples: Sequence[Example], limit: Limit) -> list[Example]:
    kept = [example for example in examples if length(example) <= limit.tokens]
    if not kept:
        shortest = min(length(example) for example in examples)
        raise TrainingError(f"all {len(examples)} examples exceed {limit.name}; the shortest has {shortest}")
    return kept
