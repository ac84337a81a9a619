"""Supervised fine-tuning on weighted examples; the loss covers completions with their end token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from star_rft.errors import TrainingError
from star_rft.training.batching import Collator, Size, length
from star_rft.training.fit import run
from star_rft.training.limits import Limit, limit_of
from star_rft.training.options import FitOptions, FitReport, LoraSpec, settled
from star_rft.types import Example

if TYPE_CHECKING:
    import torch
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.forward import Nll
    from star_rft.training.objective import Batch, Load, RowsOf

__all__ = ["FitReport", "LoraSpec", "WeightedNll", "fit"]


def fit(
    examples: Sequence[Example],
    *,
    model_path: str | Path,
    out_dir: Path,
    work_dir: Path,
    lr: float,
    **options: Unpack[FitOptions],
) -> FitReport:
    """Train the model at `model_path` on the examples and write it to `out_dir`, whole or not at all.

    - `max_steps`, where given, overrides `epochs`, which may be a fraction. An optimizer step sees
      `batch_size` examples over all ranks, in micro-batches of `micro_batch_size` on average (default: by
      their number of tokens).
    - Examples longer than `max_tokens`, or than the model takes, are dropped and counted, never cut: a cut example
      has no end.
    - Master weights are float32; `precision` is that of the computation (auto: bfloat16 on a GPU).
    - `packing` auto: on a GPU with flash-attention; elsewhere, padding among neighbours in length. A model that does
      not keep packed sequences apart is never packed.
    - `router_loss`: a mixture of experts is trained with its router's auxiliary loss too, if its config has one.
    - With `lora`, the merged model is written, and the adapter beside it in `adapter/`.
    - The weights are written in `save_dtype` (auto: what the starting model was published in). Where that is fewer
      bits, `float32_dir` is a folder for a copy in float32, and `weights_from` such a copy to start from, with
      `model_path` as its published form: rounded to bfloat16 between trainings, small updates would be lost.
    - `end_ids` are ids that completions end with; the written generation config lists them all.
    - `work_dir` is this training's own: checkpoints every `save_steps` steps; removed in the end. The same
      call again continues from the last whole checkpoint, or returns the report of a finished `out_dir`.
    - `save_optimizer` writes the optimizer's state beside the weights, and `optimizer_from` names an earlier
      `out_dir` whose state this training starts with; schedule and data are its own. Not with `lora`.
    - `on_step(step, steps, loss, tokens_per_second, learning_rate)` is called after each optimizer step.

    Raises TrainingError.
    """
    settings, around = settled(lr, options)
    _check(examples)
    limit = limit_of(settings.max_tokens, model_path, trust_remote_code=around.trust_remote_code)
    kept = _short(examples, limit)
    dropped = len(examples) - len(kept)
    limit.report(dropped, "examples", around.say)
    return run(
        WeightedNll(kept), settings, around, dropped=dropped, model_path=model_path, out_dir=out_dir, work_dir=work_dir
    )


@dataclass(frozen=True, slots=True)
class WeightedNll:
    """The loss of a step is sum_i w_i sum_t nll_it / sum_i w_i T_i."""

    examples: Sequence[Example]

    @property
    def sizes(self) -> list[Size]:
        lengths = [(length(example), len(example.completion_ids)) for example in self.examples]
        return [Size(rows=1, longest=tokens, tokens=tokens, scored=scored) for tokens, scored in lengths]

    @property
    def highest_token(self) -> int:
        return max(max((*example.prompt_ids, *example.completion_ids)) for example in self.examples)

    def content(self) -> object:
        return [(e.prompt_ids, e.completion_ids, e.weight) for e in self.examples]

    has_own_dropout = True

    def collator(self, rows_of: RowsOf, *, load: Load, config: SFTConfig) -> Collator:
        return Collator(self.examples, packed=False)

    def totals(self, batch: Batch) -> torch.Tensor:
        return batch["weights"].sum()[None]

    def loss(self, nll: Nll, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
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
