"""Log-probabilities of tokens from a model's forward. Imports torch: import it late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F

from star_rft.training.batching import IGNORED

# Where TRL's fused head, which projects the scored positions only and in tiles, runs in Triton. On a CPU it is slower
# than plain logits: there it scores prompts too, computes the entropies that TRL logs, and projects again in the
# backward pass.
FUSED_HEAD_DEVICES = ("cuda", "xpu")

Head = Literal["fused", "kept", "full"]


class Nll(NamedTuple):
    """Negative log-likelihoods of a micro-batch, 0 where nothing is scored.

    `columns` (K) are the columns of `labels[:, 1:]` that `values` (B, K) are of. `router` is the auxiliary loss of a
    mixture of experts, times its coefficient; None where the training has none.
    """

    values: torch.Tensor
    columns: torch.Tensor
    router: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Forward:
    """What a forward takes and gives, as `probe` found it.

    - `head`: "fused" is TRL's; "kept" takes the columns whose logits are computed (`logits_to_keep`); "full" computes
      the logits of all columns.
    - `type_ids` are inputs of token types that the model requires in training: 0, which is text.
    - `packs`: the sequences of a packed row do not see each other.
    - `router_coef` is the factor of the router's auxiliary loss; 0: it is not asked for.
    """

    head: Head = "kept"
    type_ids: tuple[str, ...] = ()
    packs: bool = False
    router_coef: float = 0.0


def token_nll(model: torch.nn.Module, forward: Forward, batch: dict[str, torch.Tensor]) -> Nll:
    """Return the nll of each scored token of a micro-batch made by `pad` or `pack`."""
    ids_B_T, targets_B_S = batch["input_ids"], batch["labels"][:, 1:]
    inputs: dict[str, Any] = {"input_ids": ids_B_T, "use_cache": False}
    inputs |= {name: torch.zeros_like(ids_B_T) for name in forward.type_ids}
    if "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"]
    if forward.router_coef:
        inputs["output_router_logits"] = True
        # Padding is no load of an expert. Elsewhere no mask is needed: causal attention never looks right.
        if "position_ids" not in batch:
            inputs["attention_mask"] = batch["attention_mask"]
    if forward.head == "fused":
        outputs = model(**inputs, labels=batch["labels"], fused_lm_head=True)
        columns_K = torch.arange(targets_B_S.shape[1], device=ids_B_T.device)
        nll_B_K = -outputs.log_probs
    else:
        columns_K = _scored_columns(targets_B_S)
        kept = {"logits_to_keep": columns_K} if forward.head == "kept" else {}
        outputs = model(**inputs, **kept)
        logits_B_K_V = outputs.logits if kept else outputs.logits[:, columns_K]
        targets_N = targets_B_S[:, columns_K].flatten()
        nll_N = F.cross_entropy(logits_B_K_V.flatten(0, 1).float(), targets_N, reduction="none", ignore_index=IGNORED)
        nll_B_K = nll_N.view(len(ids_B_T), -1)
    router = forward.router_coef * outputs.aux_loss if forward.router_coef else None
    return Nll(nll_B_K, columns_K, router)


def scored(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return how many tokens of a micro-batch are scored (a 0-d tensor)."""
    return (batch["labels"][:, 1:] != IGNORED).sum()


def _scored_columns(targets_B_S: torch.Tensor) -> torch.Tensor:
    """Return the columns where some row is scored; at least one, so that an empty batch has a gradient (of zero)."""
    scored_S = (targets_B_S != IGNORED).any(dim=0)
    scored_S[-1] = True
    return scored_S.nonzero().squeeze(1)
