"""Draws the next token from logits: temperature, top-k and top-p as in transformers, then the inverse CDF.

A token depends only on its row's logits and its row's uniform number, so it is the same in any batch.
Axes: N rows, V vocabulary, K blocks of W neighbouring tokens.
"""

from __future__ import annotations

import numpy as np
import torch

BLOCK = 256
NUCLEUS_TRIES = (
    64,
    1024,
)  # one of these numbers of the likeliest tokens nearly always holds top_p; sorting all is slow


def uniforms(seed: int, count: int) -> list[float]:
    """Return `count` numbers in [0, 1) that depend only on the 64-bit seed.

    Philox is a counter-based generator (Salmon et al. 2011): number i is a function of the seed and i, so a request's
    random numbers are the same in any batch, on any machine.
    """
    numbers: list[float] = np.random.Generator(np.random.Philox(key=seed)).random(count).tolist()
    return numbers


def draw(
    logits_N_V: torch.Tensor, uniform_N: torch.Tensor, *, temperature: float, top_p: float, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token_N and its log-probability at temperature 1, untruncated.

    Temperature 0 takes the largest logit. Otherwise: divide by the temperature, keep the `top_k` largest
    (0: all), of these the smallest set with mass `top_p`, draw from what is left.
    """
    scores_N_V = logits_N_V.to(torch.float32, copy=True)  # a copy, to work on it in place
    log_total_N = torch.logsumexp(scores_N_V, dim=-1)
    if temperature == 0:
        token_N = logits_N_V.argmax(dim=-1)
    else:
        scores_N_V.sub_(scores_N_V.amax(dim=-1, keepdim=True)).div_(temperature)
        weight_N_V = keep_top_k(scores_N_V, top_k).exp_()
        token_N = inverse_cdf(keep_top_p(weight_N_V, top_p), uniform_N)
    return token_N, logits_N_V.gather(1, token_N[:, None])[:, 0].float() - log_total_N


def keep_top_k(scores_N_V: torch.Tensor, top_k: int) -> torch.Tensor:
    """Set all but the `top_k` largest scores to -inf; 0 keeps all. Ties with the last one stay."""
    if top_k == 0 or top_k >= scores_N_V.shape[-1]:
        return scores_N_V
    least_N_1 = scores_N_V.topk(top_k, dim=-1).values[:, -1:]
    return scores_N_V.masked_fill(scores_N_V < least_N_1, float("-inf"))


def keep_top_p(weight_N_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Set to 0 every weight that has a mass of `top_p` or more in front of it, the largest never."""
    if top_p >= 1:
        return weight_N_V
    vocabulary = weight_N_V.shape[-1]
    target_N_1 = weight_N_V.sum(dim=-1, keepdim=True) * top_p
    # On a GPU the comparison after each try would make the host wait for the device, and sorting everything is fast.
    tries = () if weight_N_V.is_cuda else tuple(size for size in NUCLEUS_TRIES if size < vocabulary)
    for size in (*tries, vocabulary):
        largest_N_S, index_N_S = weight_N_V.topk(size, dim=-1)
        mass_N_S = largest_N_S.cumsum(dim=-1)
        if size == vocabulary or bool((mass_N_S[:, -1:] >= target_N_1).all()):
            break
    # Kept: tokens before which less than the target has come; the largest always, also where the target rounds to 0.
    is_kept_N_S = mass_N_S - largest_N_S < target_N_1
    is_kept_N_S[:, 0] = True
    return torch.zeros_like(weight_N_V).scatter_(1, index_N_S, largest_N_S * is_kept_N_S)


def inverse_cdf(weight_N_V: torch.Tensor, uniform_N: torch.Tensor) -> torch.Tensor:
    """Return the first token whose cumulative share of the weights exceeds the uniform number.

    It is found in two levels, first the block and then the token in it, so that only the sums of blocks read the whole
    vocabulary. Sums are in float64. A token of weight 0 is never returned: where rounding puts the number beyond the
    last sum, the last token with weight is.
    """
    count, vocabulary = weight_N_V.shape
    padding = -vocabulary % BLOCK
    if padding:
        weight_N_V = torch.nn.functional.pad(weight_N_V, (0, padding))
    weight_N_K_W = weight_N_V.view(count, -1, BLOCK)
    block_N_K = weight_N_K_W.sum(dim=-1).double()
    cumulative_N_K = block_N_K.cumsum(dim=-1)
    target_N = uniform_N.double() * cumulative_N_K[:, -1]
    block_N = _first_beyond(block_N_K, cumulative_N_K, target_N)
    rows_N = torch.arange(count, device=weight_N_V.device)
    weight_N_W = weight_N_K_W[rows_N, block_N].double()
    before_N = cumulative_N_K[rows_N, block_N] - block_N_K[rows_N, block_N]
    return block_N * BLOCK + _first_beyond(weight_N_W, weight_N_W.cumsum(dim=-1), target_N - before_N)


def _first_beyond(weight_N_W: torch.Tensor, cumulative_N_W: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Return the first index with weight whose cumulative sum exceeds the target, else the last such."""
    width = weight_N_W.shape[-1]
    index_W = torch.arange(width, device=weight_N_W.device)
    has_weight_N_W = weight_N_W > 0
    is_beyond_N_W = has_weight_N_W & (cumulative_N_W > target_N[:, None])
    first_N = torch.where(is_beyond_N_W, index_W, width).amin(dim=-1)
    last_N = torch.where(has_weight_N_W, index_W, 0).amax(dim=-1)
    return torch.minimum(first_N, last_N)
