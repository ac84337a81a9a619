"""Tries what a model's forward can do, on random tokens. Imports torch: import it late.

The measure is the model itself, in eval mode, on one sequence alone, with the logits of all tokens. What training uses
instead (padding, packing, fewer logits) must give the same negative log-likelihoods, or is not used.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F

from star_rft.errors import TrainingError
from star_rft.models.errors import FORWARD_ERRORS, first_line
from star_rft.models.limits import text_config
from star_rft.training.batching import IGNORED, pack, pad
from star_rft.training.forward import Forward, Head, Nll, token_nll
from star_rft.training.options import Say
from star_rft.types import Example

# Of two short sequences, in tokens. The padding of the first is as long as itself.
LENGTHS = (7, 14)
# Sums in another order move the nll of a float32 forward by about 1e-6; the smallest leak seen in a random model of
# two layers is 1e-3.
TOLERANCE = 1e-4
# A router takes the k best experts: where two of them tie, another order of sums takes the other one. So several
# draws are tried, and one that agrees is enough: what leaks, leaks in all of them.
DRAWS = 3
# bfloat16 moves each nll by some hundredths. A sequence that sees another one moves by as much as it does behind it.
FLASH_SHARE = 0.5
# Tokens of a row that are not scored, and how many of the vocabulary are drawn from.
PROMPT, WORDS = 2, 1000
NAMED = re.compile(r"\w+_token_(id|index)")
# Inputs of token types that some models require in training, to tell images from text.
TYPE_IDS = ("token_type_ids", "mm_token_type_ids")
# The router's coefficient, in the config or, as DBRX and JetMoE have it, at the model.
COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a training would use. `lengths` are those of its largest packed micro-batch; none: it does not pack."""

    is_fused: bool = False
    router_loss: bool = True
    lengths: tuple[int, ...] = ()


def probe(model: Any, wish: Wish, *, say: Say | None = None) -> Forward:
    """Return how this model's forward is called. Raises TrainingError where padding changes what a row scores."""
    was_training = model.training
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        found = Forward(type_ids=_type_ids(model))
        model.eval()
        found = replace(found, head=_head(model, found, wish))
        if wish.lengths:
            found = replace(found, packs=_packs(model, found, wish.lengths))
        found = replace(found, router_coef=_router_coef(model, found, say) if wish.router_loss else 0.0)
    model.train(was_training)
    return found


def packs_with_flash(model: Any, forward: Forward, lengths: Sequence[int]) -> bool:
    """Whether flash-attention keeps packed sequences apart; it computes in bfloat16, so this is a coarse measure."""
    with torch.random.fork_rng(), torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
        torch.manual_seed(0)
        rows = random_rows(model, (*LENGTHS, *lengths))
        batch = on_device(model, pack(rows))
        alone, packed = _alone(model, rows), _flat(token_nll(model, forward, batch), batch)
        joined = _plain(model, {name: batch[name] for name in ("input_ids", "labels")})
        error, effect = (alone - packed).abs().max(), (alone - joined).abs().max()
    return bool(error < FLASH_SHARE * effect)


def routers(model: Any) -> list[str]:
    """Return the linear layers that give more than one tensor: no adapter can be put around them."""
    found: list[str] = []

    def note(name: str, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            found.append(name)

    hooks = [
        module.register_forward_hook(lambda _module, _input, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    with torch.random.fork_rng(), torch.no_grad():
        _alone(model, random_rows(model, LENGTHS[:1]))
    for hook in hooks:
        hook.remove()
    return sorted(set(found))


def check_adapters(model: Any) -> None:
    """Raise TrainingError for adapters that a model does not run with, or that could not be merged into its weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: dict[int, str] = {}
    for name, module in model.named_modules():
        base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else None
        other = adapted.setdefault(id(base.weight), name) if isinstance(base, torch.nn.Linear) else name
        if other != name:  # Zamba's shared block is several modules with the same weights
            raise TrainingError(
                f"lora: {other} and {name} share one weight, into which two adapters cannot be merged: name others in"
                " lora.target_modules"
            )
    with torch.random.fork_rng(), torch.no_grad():
        try:
            _alone(model, random_rows(model, LENGTHS[:1]))
        except FORWARD_ERRORS as error:
            raise TrainingError(
                f"lora: the model does not run with adapters there ({first_line(error)}): name others in"
                " lora.target_modules"
            ) from error


def _type_ids(model: Any) -> tuple[str, ...]:
    """Return which token types the forward cannot do without in training."""
    (row,) = random_rows(model, LENGTHS[:1])
    taken = [name for name in TYPE_IDS if name in inspect.signature(type(model).forward).parameters]
    model.train()
    choices = [names for count in range(len(taken) + 1) for names in combinations(taken, count)]
    for names in choices:
        try:
            token_nll(model, Forward(head="full", type_ids=names), on_device(model, pad([row])))
        except FORWARD_ERRORS as error:
            if names == choices[-1]:
                kind = type(model).__name__
                raise TrainingError(f"{kind} cannot be trained on text alone: {first_line(error)}") from error
            continue
        return names
    return ()


def _head(model: Any, forward: Forward, wish: Wish) -> Head:
    """Return the cheapest way to the logits that gives those of each row alone, in a padded batch."""
    can_keep = "logits_to_keep" in inspect.signature(type(model).forward).parameters
    possible: dict[Head, bool] = {"fused": wish.is_fused, "kept": can_keep, "full": True}
    for head in (head for head, is_possible in possible.items() if is_possible):
        if _agrees(model, replace(forward, head=head), LENGTHS):
            return head
    raise TrainingError(
        f"{type(model).__name__} scores a row otherwise when padding is behind it, so that a batch of rows of unequal "
        "length would train on something else: use another model"
    )


def _packs(model: Any, forward: Forward, lengths: Sequence[int]) -> bool:
    # Chunks of attention are counted from the start of the row: a packed sequence would be cut where it alone is not.
    if getattr(text_config(model.config), "attention_chunk_size", None) is not None:
        return False
    return all(_agrees(model, forward, wanted, is_packed=True) for wanted in (LENGTHS, lengths))


def _router_coef(model: Any, forward: Forward, say: Say | None) -> float:
    """Return the coefficient of the router's auxiliary loss, where there is one to train with."""
    config = text_config(model.config)
    found = (getattr(place, name, None) for place in (config, model) for name in COEFFICIENTS)
    coef = next((value for value in found if isinstance(value, float | int)), 0.0)
    if coef <= 0:
        return 0.0
    asked = replace(forward, router_coef=float(coef))
    batch = on_device(model, pad(random_rows(model, LENGTHS[:1])))
    try:
        alone, padded = (token_nll(model, asked, rows).router for rows in (batch, _longer(batch)))
    except FORWARD_ERRORS:
        alone = padded = None
    kind, why = type(model).__name__, "its forward gives no auxiliary loss"
    if isinstance(alone, torch.Tensor) and isinstance(padded, torch.Tensor):
        if bool((alone - padded).abs() <= TOLERANCE * (1 + alone.abs())):
            return float(coef)
        why = "its auxiliary loss counts padding"
    if say is not None:
        say(f"{kind} has router_aux_loss_coef={coef:g}, but {why}: the router is trained without it")
    return 0.0


def _agrees(model: Any, forward: Forward, lengths: Sequence[int], *, is_packed: bool = False) -> bool:
    """Whether the rows together score what each scores alone."""
    for _ in range(DRAWS):
        rows = random_rows(model, lengths)
        batch = on_device(model, pack(rows) if is_packed else pad(rows))
        try:
            found = _flat(token_nll(model, forward, batch), batch)
        except FORWARD_ERRORS:
            return False
        alone = _alone(model, rows)
        if found.shape == alone.shape and bool(((found - alone).abs() <= TOLERANCE * (1 + alone)).all()):
            return True
    return False


def _alone(model: Any, rows: Sequence[Example]) -> torch.Tensor:
    """Return the nll of the scored tokens of each row alone, one row after the other."""
    return torch.cat([_plain(model, on_device(model, pad([row]))) for row in rows])


def _plain(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the same for one row, by the logits of all tokens and nothing of ours."""
    logits_V_S = model(input_ids=batch["input_ids"], use_cache=False).logits[0, :-1].float().T
    nll_S = F.cross_entropy(logits_V_S[None], batch["labels"][:, 1:], reduction="none")[0]
    return nll_S[batch["labels"][0, 1:] != IGNORED]


def _flat(nll: Nll, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return nll.values[batch["labels"][:, 1:][:, nll.columns] != IGNORED]


def _longer(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a batch with as much padding behind it as it is long."""
    behind = {"labels": IGNORED}
    return {
        name: torch.cat([value_B_T, torch.full_like(value_B_T, behind.get(name, 0))], dim=1)
        for name, value_B_T in batch.items()
    }


def random_rows(model: Any, lengths: Sequence[int]) -> list[Example]:
    """Draw rows of tokens that are text: none that a config names as an image, a video, or an end."""
    config = model.config
    named = {value for name, value in config.to_dict().items() if NAMED.fullmatch(name) and isinstance(value, int)}
    size = text_config(config).vocab_size
    words = torch.tensor([i for i in range(min(size, WORDS)) if i not in named])
    rows = [words[torch.randint(len(words), (length,))].tolist() for length in lengths]
    return [Example(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in rows]


def on_device(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a batch on the device of a model."""
    return {name: tensor.to(model.device) for name, tensor in batch.items()}
