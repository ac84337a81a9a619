"""Loss functions. Imports torch: import it late."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from star_rft.training.batching import IGNORED
from star_rft.training.forward import Nll
from star_rft.training.options import PreferenceObjective


def weighted_nll(nll: Nll, *, weights: torch.Tensor) -> torch.Tensor:
    """Return sum_i w_i sum_t nll_it of a micro-batch, as the one number (a 0-d tensor)."""
    return (nll.values * weights[:, 1:][:, nll.columns]).sum()


def completion_logps(nll: Nll, *, labels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each completion (N).

    `lengths` (N) are the completions' numbers of tokens; the scored tokens lie in their order, padded or packed.
    """
    is_scored_B_K = labels[:, 1:][:, nll.columns] != IGNORED
    parts = torch.split(nll.values[is_scored_B_K], lengths.tolist())
    return -torch.stack([part.sum() for part in parts])


def pair_losses(
    kind: PreferenceObjective,
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
    if kind == "rrhf":
        p_N = logps / lengths
        return F.relu(p_N[worse] - p_N[better])
    ratios_N = logps - references
    return -F.logsigmoid(beta * (ratios_N[better] - ratios_N[worse]))
