"""Attention and masks over a cache of slots, registered with transformers under the name `ATTENTION`.

A mask is computed by the mask function that transformers itself makes for a layer (causal, sliding window, chunked), at
the true positions of a row's keys: nothing here knows windows. Keys outside a window stay in the cache and are masked.

Axes: N active rows, H key/value heads, G query heads a key/value head, T positions of keys, Q positions of queries,
D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from star_rft.engines.hf.kv_cache import AIM, Aim
from star_rft.models import ModelError

ATTENTION = "star_rft_slots"
QUERY_BLOCK = 512  # queries whose scores are in memory at once while a prompt is prefilled
# Arguments that change nothing here: the window is in the mask, positions are in the cache, and dropout is off.
HARMLESS = frozenset({"dropout", "is_causal", "sliding_window", "position_ids", "use_cache"})


def slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token a row over its prefix and its suffix; without an `AIM`, of whole prompts.

    In a step `query` is N, H*G, 1, D and `key`, `value` are the suffixes, N, H, T, D. `softcap` and the sinks `s_aux`
    (one logit a query head that takes weight and has no value) are those of transformers' eager attention.

    sdpa with a mask first copies every key and value G times, which on a CPU costs several times the attention itself.
    Here the query heads of a group, and the rows of a prefix, are rows of one product.

    Raises:
        ModelError: An argument that is not computed here, or keys or a mask that are not those of the step.
    """
    _require_known(module, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    aim = AIM.get()
    if aim is None:
        if softcap is not None or s_aux is not None:
            return _whole(query, key, value, attention_mask, scale, softcap, s_aux), None
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scale, is_causal=kwargs.get("is_causal")
        )
        return output
    layer = aim.layers.get(id(key))
    if layer is None:
        raise ModelError(f"{type(module).__name__} changes the keys that the cache gave it (as latent attention does)")
    if attention_mask is None or not any(attention_mask is mask for mask in aim.masks):
        raise ModelError(f"{type(module).__name__} has a mask of its own (ALiBi adds one, for example)")
    count, query_heads, _, dim = query.shape
    heads = key.shape[1]
    query_N_H_G_D = query.reshape(count, heads, query_heads // heads, dim) * scale
    keys_P_H_D_T = layer.prefix_keys_P_H_D_T[: aim.prefixes, :, :, : aim.prefix_width]
    values_P_H_T_D = layer.prefix_values_P_H_T_D[: aim.prefixes, :, : aim.prefix_width]

    # Scores over the prefix are computed in the grid (one product a prefix), over the suffix row by row. The softmax is
    # over both together.
    prefix_scores_N_H_G_T = aim.from_grid(torch.matmul(aim.to_grid(query_N_H_G_D), keys_P_H_D_T))
    suffix_scores_N_H_G_T = torch.matmul(query_N_H_G_D, key.transpose(-1, -2))
    weights_N_H_G_T = _weights(
        # No variable holds this tensor, so that it is freed once the mask is added.
        torch.cat([prefix_scores_N_H_G_T, suffix_scores_N_H_G_T], dim=-1),
        attention_mask,
        softcap,
        s_aux,
    ).to(value.dtype)
    prefix_weights, suffix_weights = weights_N_H_G_T.tensor_split([aim.prefix_width], dim=-1)
    output_N_H_G_D = torch.matmul(suffix_weights, value)
    output_N_H_G_D += aim.from_grid(torch.matmul(aim.to_grid(prefix_weights), values_P_H_T_D))
    return output_N_H_G_D.reshape(count, 1, query_heads, value.shape[-1]), None


def _weights(
    scores_N_H_G_T: torch.Tensor, mask: torch.Tensor, softcap: float | None, s_aux: torch.Tensor | None
) -> torch.Tensor:
    """Return the softmax of scaled scores, in fp32 because the mask is. For prompts, axis G is G * Q."""
    if softcap is not None:
        scores_N_H_G_T = torch.tanh(scores_N_H_G_T / softcap) * softcap
    scores_N_H_G_T = scores_N_H_G_T + mask
    if s_aux is None:
        return torch.softmax(scores_N_H_G_T, dim=-1)
    count, heads, group, _ = scores_N_H_G_T.shape
    sinks_N_H_G_1 = s_aux.float().reshape(1, heads, -1, 1).expand(count, -1, -1, group // (len(s_aux) // heads))
    sinks_N_H_G_1 = sinks_N_H_G_1.reshape(count, heads, group, 1)
    return torch.softmax(torch.cat([scores_N_H_G_T, sinks_N_H_G_1], dim=-1), dim=-1)[..., :-1]


def _whole(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    s_aux: torch.Tensor | None,
) -> torch.Tensor:
    """Return the attention of prompts over themselves, output_N_Q_(H*G)_D; causal where there is no mask.

    Queries are taken in blocks, so that memory grows with QUERY_BLOCK times the width and not with its square.
    """
    count, query_heads, width, dim = query.shape
    heads = key.shape[1]
    group = query_heads // heads
    if mask is None:
        mask = torch.ones(width, key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    outputs = []
    for start in range(0, width, QUERY_BLOCK):
        block = query[:, :, start : start + QUERY_BLOCK] * scale
        length = block.shape[2]
        scores = torch.matmul(block.reshape(count, heads, group * length, dim), key.transpose(-1, -2))
        additive = torch.zeros((), device=query.device).expand(mask.shape[0], 1, length, key.shape[2])
        additive = additive.masked_fill(~mask[:, :, start : start + QUERY_BLOCK], float("-inf"))
        weights = _weights(scores, additive.repeat(1, 1, group, 1), softcap, s_aux).to(value.dtype)
        outputs.append(torch.matmul(weights, value).view(count, query_heads, length, value.shape[-1]))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _require_known(module: Any, arguments: Mapping[str, Any]) -> None:
    for name, argument in arguments.items():
        if argument is not None and name not in HARMLESS and not name.startswith("output_"):
            raise ModelError(f"{type(module).__name__} passes {name!r} to its attention, which is not computed here")


def slot_mask(
    *, mask_function: Callable[..., Any] = causal_mask_function, use_vmap: bool = False, **kwargs: Any
) -> Any:
    """Return the additive mask_N_1_1_T of a step: 0 where a row sees a key, -inf elsewhere. Prompts get sdpa's mask."""
    aim = AIM.get()
    if aim is None:
        mask: torch.Tensor | None = sdpa_mask(mask_function=mask_function, use_vmap=use_vmap, **kwargs)
        return mask
    if use_vmap:
        raise ModelError("the model has a mask function of its own, which cannot be computed at other positions")
    mask_N_1_1_T = _mask(aim, mask_function)
    aim.masks.append(mask_N_1_1_T)
    return mask_N_1_1_T


def _mask(aim: Aim, mask_function: Callable[..., Any]) -> torch.Tensor:
    device = aim.lengths_N.device
    prefix_T = torch.arange(aim.prefix_width, device=device)
    suffix_T = torch.arange(aim.suffix_width, device=device)
    # Prefixes are padded to the longest, suffixes end with the row's own token: so much is the causal mask.
    is_seen_N_T = torch.cat([prefix_T < aim.lengths_N[:, None], suffix_T <= aim.positions_N[:, None]], dim=1)
    if mask_function is not causal_mask_function:
        # transformers' mask functions take (batch, head, query position, key position), broadcast: here N_1_1_1, a
        # scalar, N_1_1_1 and N_1_1_T. Suffix position t of a row is position `lengths_N + t` of its sequence.
        keys_N_T = torch.cat([prefix_T.expand(len(aim.rows_N), -1), aim.lengths_N[:, None] + suffix_T], dim=1)
        queries_N = aim.lengths_N + aim.positions_N
        head = torch.zeros((), dtype=torch.long, device=device)
        row_N_1_1_1, query_N_1_1_1 = aim.rows_N[:, None, None, None], queries_N[:, None, None, None]
        is_seen_N_T = is_seen_N_T & mask_function(row_N_1_1_1, head, query_N_1_1_1, keys_N_T[:, None, None])[:, 0, 0]
    mask_N_T = torch.zeros(is_seen_N_T.shape, device=device).masked_fill_(~is_seen_N_T, float("-inf"))
    return mask_N_T[:, None, None, :]


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, slot_mask)
