"""The built-in preference objectives: DPO, RSO, RRHF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from star_rft.training.registry import CompletionPairs, objective

if TYPE_CHECKING:
    import torch

Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@objective
def dpo(pairs: CompletionPairs, *, beta: Scale = 0.1) -> torch.Tensor:
    """Direct preference optimization (2305.18290, eq. 7).

    -log sigmoid(beta * (r_better - r_worse)) with r = log pi(y|x) - log pi_ref(y|x).
    """
    from torch.nn.functional import logsigmoid

    margin_P = (pairs.better - pairs.better_reference) - (pairs.worse - pairs.worse_reference)
    return -logsigmoid(beta * margin_P)


@objective
def rso(pairs: CompletionPairs, *, beta: Scale = 0.1) -> torch.Tensor:
    """The "sigmoid-norm" loss of statistical rejection sampling optimization (2309.06657), where beta is called gamma.

    It is DPO's formula: the sampling sets the method apart. Its norm is the division by the reference; TRL's
    `sigmoid_norm` divides by the length, as Tulu 3 does, and is another loss.
    """
    return dpo(pairs, beta=beta)


@objective(needs_reference=False, averages="preferences", imitates="first")
def rrhf(pairs: CompletionPairs) -> torch.Tensor:
    """Rank responses to align (2304.05302, eq. 2): max(0, p_worse - p_better) with p = log pi(y|x) / |y|.

    The paper adds the negative log-likelihood of the best completion: `sft_weight` 1. In its text that term is a sum
    over tokens, in its authors' code the mean, as here.
    """
    from torch.nn.functional import relu

    return relu(pairs.worse / pairs.worse_tokens - pairs.better / pairs.better_tokens)
