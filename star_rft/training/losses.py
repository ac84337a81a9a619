"""The formulas. Imports torch: import it late."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from star_rft.training.batches import IGNORED
from star_rft.training.settings import Comparison

# Where TRL's fused head, which projects the scored positions only and in tiles, runs in Triton.
FUSED_HEAD_DEVICES = ("cuda", "xpu")


def token_nll(
    model: torch.nn.Module,
    *,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    position_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nll_B_K, 0 where nothing is scored, and columns_K: the columns of `labels[:, 1:]` that it is of.

    On a CPU TRL's fused head is slower than plain logits: there it scores prompts
    too, computes the entropies that TRL logs, and projects again in the backward pass.
    """
    inputs = {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False}
    targets_B_S = labels[:, 1:]
    if input_ids.device.type in FUSED_HEAD_DEVICES:
        log_probs_B_S: torch.Tensor = model(**inputs, labels=labels, fused_lm_head=True).log_probs
        return -log_probs_B_S, torch.arange(targets_B_S.shape[1], device=input_ids.device)
    # Columns where some row is scored; at least one, so that an empty batch still has a gradient (of zero).
    scored_S = (targets_B_S != IGNORED).any(dim=0)
    scored_S[-1] = True
    columns_K = scored_S.nonzero().squeeze(1)
    logits_B_K_V = model(**inputs, logits_to_keep=columns_K).logits
    targets_N = targets_B_S[:, columns_K].flatten()
    nll_N = F.cross_entropy(logits_B_K_V.flatten(0, 1).float(), targets_N, reduction="none", ignore_index=IGNORED)
    return nll_N.view(len(input_ids), -1), columns_K


def weighted_nll(
    model: torch.nn.Module,
    *,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    position_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return sum_i w_i sum_t nll_it of a micro-batch, as the one number (a 0-d tensor)."""
    nll_B_K, columns_K = token_nll(model, input_ids=input_ids, labels=labels, position_ids=position_ids)
    return (nll_B_K * weights[:, 1:][:, columns_K]).sum()


def logps_and_nll(
    model: torch.nn.Module,
    *,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    lengths: torch.Tensor,
    position_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logps_N, the log-probability of each completion, and what `weighted_nll` returns, of one forward.

    `lengths` (N) are the completions' numbers of tokens; the scored tokens lie in their order, padded or packed.
    """
    nll_B_K, columns_K = token_nll(model, input_ids=input_ids, labels=labels, position_ids=position_ids)
    is_scored_B_K = labels[:, 1:][:, columns_K] != IGNORED
    parts = torch.split(nll_B_K[is_scored_B_K], lengths.tolist())
    logps_N = -torch.stack([part.sum() for part in parts])
    return logps_N, (nll_B_K * weights[:, 1:][:, columns_K]).sum()


def pair_losses(
    comparison: Comparison,
    *,
    logps: torch.Tensor,
    references: torch.Tensor,
    lengths: torch.Tensor,
    better: torch.Tensor,
    worse: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Return the loss of each pair (P). `logps`, `references`, `lengths` are (N); `better`, `worse` index them (P).

    - dpo (2305.18290, eq. 7): -log sigmoid(beta * (r_better - r_worse)), r = log pi(y|x) - log pi_ref(y|x).
    - rso (2309.06657): its "sigmoid-norm" loss, which is dpo's formula with gamma for beta; the norm is the
      division by the reference, not by the length. (TRL's `sigmoid_norm` divides r by the length, as Tulu 3 does.)
    - rrhf (2304.05302, eq. 2): max(0, p_worse - p_better), p = log pi(y|x) / |y|; neither reference nor beta.
    """
    if comparison == "rrhf":
        p_N = logps / lengths
        return F.relu(p_N[worse] - p_N[better])
    ratios_N = logps - references
    return -F.logsigmoid(beta * (ratios_N[better] - ratios_N[worse]))
