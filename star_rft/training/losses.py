"""Loss functions. Imports torch: import it late."""

from __future__ import annotations

import torch

from star_rft.training.batching import IGNORED
from star_rft.training.forward import Nll


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
