"""Preference training: a model learns which completions of a prompt are better."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft import models
from star_rft.errors import TrainingError
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.progress import OnStep
from star_rft.training.batching import Size, pack, pad
from star_rft.training.fit import run
from star_rft.training.limits import Limit, limit_of
from star_rft.training.options import FitReport, Say, TrainingOptions
from star_rft.training.registry import CompletionPairs, ObjectiveSpec, PairObjective
from star_rft.types import Example, Preference

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from trl.trainer.sft_config import SFTConfig

    from star_rft.training.forward import Forward, Nll
    from star_rft.training.step_loss import Batch, Load, RowsOf


def fit_preferences(
    preferences: Sequence[Preference],
    options: TrainingOptions,
    *,
    objective: ObjectiveSpec,
    model: ModelSpec,
    reference: ModelSpec | None = None,
    out_dir: Path,
    work_dir: Path,
    on_step: OnStep | None = None,
    say: Say | None = None,
) -> FitReport:
    """Train a model to prefer better completions to worse ones and write it, whole or not at all.

    The loss of a step is the sum of the objective over all pairs of completions of one prompt with unequal scores,
    divided by the number of pairs (rrhf: of preferences), plus `objective.sft_weight` times a negative log-likelihood.
    A ranking of m completions gives every pair of unequal scores. Each completion is forwarded once a step, whatever
    the number of its pairs. The policy's own dropout, and the noise of its routers, is off; that of adapters is not.

    Args:
        preferences: What is compared. Completions that exceed `max_tokens` with their prompt are left out and
            counted; the rest of their preference is compared, if anything in it can be.
        options: How. `batch_size` and `micro_batch_size` count preferences, and the completions of one stay together
            in a micro-batch.
        objective: The loss of a pair.
        model: Where the training starts, and on which device it runs.
        reference: The reference model, by default the one that the training starts from. It scores every completion
            once, before the training, and is not in memory during it.
        out_dir: As in `fit`.
        work_dir: As in `fit`.
        on_step: As in `fit`.
        say: As in `fit`.

    Returns:
        What was trained on, and for how long.

    Raises:
        TrainingError: The preferences, options, models and folders do not go together, or memory does not suffice.
    """
    objective.check()
    plugin = objective.plugin()
    _check(plugin, reference=reference, sft_weight=objective.sft_weight)
    if not preferences:
        raise TrainingError("there are no preferences to train on")
    for preference in preferences:
        _check_preference(preference)
    limit = limit_of(options.max_tokens, model, *([] if reference is None else [reference]))
    kept, dropped = _usable(preferences, limit)
    limit.report(dropped, "completions", say)
    scored_by = reference or model.at(options.weights_from or model.path)
    loss = PairLoss(kept, objective, scored_by if plugin.needs_reference else None)
    where: Any = {"model": model, "out_dir": out_dir, "work_dir": work_dir}
    return run(loss, options, dropped=dropped, on_step=on_step, say=say, **where)


@dataclass(frozen=True, slots=True)
class PairLoss:
    """The loss of a step: sum_pairs loss / n + sft_weight * sum_i w_i nll_i / sum_i w_i T_i.

    n is the number of pairs, or of preferences (see `PairObjective.averages`). `reference` is the reference model, None
    where the objective needs none.
    """

    preferences: Sequence[Preference]
    objective: ObjectiveSpec
    reference: AnyModel | None

    @property
    def sizes(self) -> list[Size]:
        """What each preference takes of a micro-batch: all of its completions."""
        return [_size(preference) for preference in self.preferences]

    @property
    def highest_token(self) -> int:
        """The highest token id of all prompts and completions."""
        return max(max((*r.prompt_ids, *(i for ids in r.completion_ids for i in ids))) for r in self.preferences)

    def content(self) -> object:
        """Return objective, reference and preferences, for the fingerprint of the training."""
        reference = None if self.reference is None else models.fingerprint(ModelSpec.of(self.reference).path)
        rows = [(r.prompt_ids, r.completion_ids, r.scores) for r in self.preferences]
        return [*self.objective.content(), reference, rows]

    # Noise in the ratio to a reference that has none is no preference.
    has_own_dropout = False

    def collator(self, rows_of: RowsOf, *, load: Load, config: SFTConfig) -> PreferenceCollator:
        """Score the completions by the reference model, and return what makes micro-batches."""
        bare = PreferenceCollator(self.preferences, self.objective.plugin(), packed=False)
        if self.reference is None:
            return bare
        loaded = load(ModelSpec.of(self.reference))
        packed = loaded.forward.packs
        references = reference_logps(
            loaded.model, loaded.forward, rows_of(packed), replace(bare, packed=packed), config=config
        )
        del loaded
        gc.collect()  # TRL's fused head makes the model part of a cycle, and the policy needs its room
        return replace(bare, references=references)

    def totals(self, batch: Batch) -> torch.Tensor:
        """Return the pairs (or preferences) of a micro-batch and the tokens of its weighted completions (2)."""
        import torch

        return torch.stack([batch["compared"].sum(), batch["weights"].sum()])

    def loss(self, nll: Nll, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """Return a micro-batch's share of the loss of the step."""
        from star_rft.training.losses import completion_logps, weighted_nll

        logps_N = completion_logps(nll, labels=batch["labels"], lengths=batch["lengths"])
        better_P, worse_P = batch["better"], batch["worse"]
        columns = (logps_N, batch["references"], batch["lengths"])
        pairs = CompletionPairs(*(column_N[index_P] for column_N in columns for index_P in (better_P, worse_P)))
        losses_P = self.objective.plugin().function(pairs, **self.objective.options)
        if losses_P.shape != better_P.shape:
            raise TrainingError(
                f"objective {self.objective.name!r} returned a tensor of shape {tuple(losses_P.shape)} for"
                f" {len(better_P)} pairs: it returns the loss of each pair, without a mean"
            )
        supervised = weighted_nll(nll, weights=batch["weights"]) / totals[1]
        return losses_P.sum() / totals[0] + self.objective.sft_weight * supervised


@dataclass(frozen=True, slots=True)
class PreferenceCollator:
    """Turn rows `{"members": [indices]}` into a micro-batch of all completions of these preferences."""

    preferences: Sequence[Preference]
    objective: PairObjective
    packed: bool
    references: Mapping[int, Sequence[float]] | None = None

    def __call__(self, rows: Iterable[Mapping[str, Sequence[int]]]) -> Batch:
        """Return the tensors of `pad` or `pack` over all N completions, and the pairs.

        `lengths`, `references` (N); `better`, `worse` (P): the pairs, as indices of completions; `compared` (1):
        what the sum over pairs is divided by.
        """
        import torch

        members = [i for row in rows for i in row["members"]]
        examples = [example for i in members for example in _examples(self.preferences[i], self.objective)]
        # Trainer wants the same number of micro-batches every step: an empty one is a completion of no weight.
        examples = examples or [Example(prompt_ids=(0,), completion_ids=(0,), weight=0.0)]
        pairs = self._pairs(members)
        references = [0.0] * len(examples)
        if self.references is not None and members:
            references = [logp for i in members for logp in self.references[i]]
        return {
            **(pack(examples) if self.packed else pad(examples)),
            "lengths": torch.tensor([len(example.completion_ids) for example in examples]),
            "references": torch.tensor(references, dtype=torch.float32),
            "better": torch.tensor([better for better, _ in pairs], dtype=torch.int64),
            "worse": torch.tensor([worse for _, worse in pairs], dtype=torch.int64),
            "compared": torch.tensor([float(len(members if self.objective.averages == "preferences" else pairs))]),
        }

    def _pairs(self, members: Sequence[int]) -> list[tuple[int, int]]:
        pairs = []
        first = 0
        for i in members:
            scores = self.preferences[i].scores
            pairs += [(first + b, first + w) for b in range(len(scores)) for w in _worse(scores, b)]
            first += len(scores)
        return pairs


def reference_logps(
    model: PreTrainedModel,
    forward: Forward,
    rows: Sequence[Sequence[int]],
    collate: PreferenceCollator,
    *,
    config: SFTConfig,
) -> dict[int, list[float]]:
    """Return the log-probability of each completion of each preference in `rows`, by the precision of the training.

    With several ranks each does its share. The router's auxiliary loss is not asked for.
    """
    import torch
    from accelerate.utils import gather_object

    from star_rft.training.forward import token_nll
    from star_rft.training.losses import completion_logps

    module: torch.nn.Module = model
    module.to(config.device)
    plain = replace(forward, router_coef=0.0)
    found: list[tuple[int, list[float]]] = []
    with torch.inference_mode(), torch.autocast(config.device.type, dtype=torch.bfloat16, enabled=bool(config.bf16)):
        for members in _once(rows)[config.process_index :: config.world_size]:
            batch = {name: tensor.to(config.device) for name, tensor in collate([{"members": members}]).items()}
            nll = token_nll(model, plain, batch)
            logps_N = completion_logps(nll, labels=batch["labels"], lengths=batch["lengths"])
            counts = [len(collate.preferences[i].scores) for i in members]
            found += zip(members, [part.tolist() for part in torch.split(logps_N.cpu(), counts)], strict=True)
    return dict(gather_object(found))


def _once(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Leave of each row what stands in no row before it; drop empty ones."""
    seen: set[int] = set()
    fresh = []
    for row in rows:
        if new := [i for i in row if i not in seen]:
            fresh.append(new)
            seen.update(new)
    return fresh


def _worse(scores: Sequence[float], better: int) -> list[int]:
    return [i for i, score in enumerate(scores) if score < scores[better]]


def _examples(preference: Preference, objective: PairObjective) -> list[Example]:
    """Return the completions, each with its weight in the negative log-likelihood."""
    if objective.imitates == "first":  # by the mean over its tokens
        weights = [1 / len(preference.completion_ids[0]), *[0.0] * (len(preference.scores) - 1)]
    else:
        weights = [float(len(_worse(preference.scores, i))) for i in range(len(preference.scores))]
    return [
        Example(preference.prompt_ids, ids, weight)
        for ids, weight in zip(preference.completion_ids, weights, strict=True)
    ]


def _size(preference: Preference) -> Size:
    lengths = [len(preference.prompt_ids) + len(ids) for ids in preference.completion_ids]
    scored = sum(len(ids) for ids in preference.completion_ids)
    return Size(rows=len(lengths), longest=max(lengths), tokens=sum(lengths), scored=scored)


def _check(objective: PairObjective, *, reference: ModelSpec | None, sft_weight: float) -> None:
    if reference is not None and not objective.needs_reference:
        raise TrainingError(f"{objective.name} has no reference model: leave reference out")
    if not (math.isfinite(sft_weight) and sft_weight >= 0):
        raise TrainingError(f"sft_weight is {sft_weight}: it is 0 or positive")


def _usable(preferences: Sequence[Preference], limit: Limit) -> tuple[list[Preference], int]:
    """Return the preferences without the completions that are too long, and how many those were."""
    shortened = [_short(preference, max_tokens=limit.tokens) for preference in preferences]
    kept = [preference for preference in shortened if len(set(preference.scores)) > 1]
    if not kept:
        raise TrainingError(f"no preference has two completions of unequal score within {limit.name}")
    return kept, sum(len(r.scores) for r in preferences) - sum(len(r.scores) for r in shortened)


def _check_preference(preference: Preference) -> None:
    if len(preference.scores) != len(preference.completion_ids):
        raise TrainingError(
            f"a preference has {len(preference.completion_ids)} completions but {len(preference.scores)} scores"
        )
    if not all(math.isfinite(score) for score in preference.scores):
        raise TrainingError(f"a preference has the scores {preference.scores}: each is a finite number")
    if list(preference.scores) != sorted(preference.scores, reverse=True):
        raise TrainingError(f"a preference has the scores {preference.scores}: the best comes first")
    if len(set(preference.scores)) < 2:
        raise TrainingError("a preference compares nothing: it needs two completions of unequal score; leave it out")
    if not preference.prompt_ids:
        raise TrainingError("a preference has no prompt")
    if not all(preference.completion_ids):
        raise TrainingError("a preference has an empty completion: not even the end-of-sequence token")


def _short(preference: Preference, *, max_tokens: int) -> Preference:
    room = max_tokens - len(preference.prompt_ids)
    kept = [
        (ids, score)
        for ids, score in zip(preference.completion_ids, preference.scores, strict=True)
        if len(ids) <= room
    ]
    return replace(preference, completion_ids=tuple(ids for ids, _ in kept), scores=tuple(score for _, score in kept))
