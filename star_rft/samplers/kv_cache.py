"""A key/value cache of slots: every row of the batch has its own length and can be replaced in place.

transformers' DynamicCache grows by copying itself at every step and has one length for the whole batch.
Here each row writes at its own position, and the attention below never repeats keys for grouped heads.

Axes: B slots, N active rows (slots 0..N-1), H key/value heads, G query heads a key/value head, T positions,
D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "star_rft_slots"
WIDTH_STEP = 16  # keys are read up to a multiple of this: fewer distinct shapes, aligned loads


class SlotCache(Cache):
    """Keys and values of a batch of rows, each with a length of its own.

    Before each forward of N rows set `aim`; the layers then write one position a row and return N rows.
    """

    def __init__(self, like: DynamicCache, *, slots: int, positions: int) -> None:
        """Allocate for `slots` rows of at most `positions` tokens, with the shapes that `like` holds."""
        self.capacity = -(-positions // WIDTH_STEP) * WIDTH_STEP
        self._slots = [SlotLayer(layer, slots, self.capacity) for layer in like.layers]
        super().__init__(layers=[*self._slots])

    def aim(self, positions_N: torch.Tensor, longest: int) -> torch.Tensor:
        """Point the next write of row n at `positions_N[n]`; return the additive mask_N_1_1_T.

        `longest` is `max(positions_N)`, which the caller knows without asking the device.
        """
        width = min(self.capacity, (longest // WIDTH_STEP + 1) * WIDTH_STEP)
        rows_N = torch.arange(len(positions_N), device=positions_N.device)
        for layer in self._slots:
            layer.rows_N, layer.positions_N, layer.width = rows_N, positions_N, width
        is_future_N_T = torch.arange(width, device=positions_N.device) > positions_N[:, None]
        mask_N_T = torch.zeros(is_future_N_T.shape, device=positions_N.device)
        return mask_N_T.masked_fill_(is_future_N_T, float("-inf"))[:, None, None, :]

    def admit(self, slots: Sequence[int], prompts: DynamicCache, row: int, length: int) -> None:
        """Copy the first `length` positions of one prefilled prompt into each of `slots`."""
        if length == 0:
            return
        layer: SlotLayer
        prompt: Any  # transformers does not say that an attention layer has keys
        for layer, prompt in zip(self._slots, prompts.layers, strict=True):
            layer.keys_B_H_D_T[slots, :, :, :length] = prompt.keys[row, :, :length].transpose(-1, -2)
            layer.values_B_H_T_D[slots, :, :length] = prompt.values[row, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Overwrite slot `target` with the first `length` positions of slot `source`."""
        for layer in self._slots:
            layer.keys_B_H_D_T[target, :, :, :length] = layer.keys_B_H_D_T[source, :, :, :length]
            layer.values_B_H_T_D[target, :, :length] = layer.values_B_H_T_D[source, :, :length]


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a SlotCache. Keys lie transposed: a product with them then reads memory in order."""

    def __init__(self, like: Any, slots: int, positions: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _, heads, _, key_dim = like.keys.shape
        value_dim = like.values.shape[-1]
        # Zeros, because a masked position still enters a product, where 0 x NaN would be NaN.
        self.keys_B_H_D_T = like.keys.new_zeros(slots, heads, key_dim, positions)
        self.values_B_H_T_D = like.values.new_zeros(slots, heads, positions, value_dim)
        self.rows_N = self.positions_N = torch.empty(0)
        self.width = 0
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one new position a row; return keys_N_H_T_D and values_N_H_T_D up to the aimed width."""
        count = len(self.rows_N)
        self.keys_B_H_D_T[self.rows_N, :, :, self.positions_N] = key_states[:, :, 0]
        self.values_B_H_T_D[self.rows_N, :, self.positions_N] = value_states[:, :, 0]
        keys_N_H_T_D = self.keys_B_H_D_T[:count, :, :, : self.width].transpose(-1, -2)
        return keys_N_H_T_D, self.values_B_H_T_D[:count, :, : self.width]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is lazy here."""

    def get_seq_length(self) -> int:
        return self.width - 1  # without the token of the current step

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_max_length(self) -> int:
        return int(self.keys_B_H_D_T.shape[-1])


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for one new token a row; prefill (more than one query) goes to transformers' sdpa.

    sdpa with a mask repeats every key and value G times in memory first: on a CPU that costs 5 to 10 times
    the attention itself. Query heads of one group are instead the rows of one matrix product.
    """
    if query.shape[2] != 1 or attention_mask is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    count, query_heads, _, dim = query.shape
    heads = key.shape[1]
    query_N_H_G_D = query.reshape(count, heads, query_heads // heads, dim)
    scale = dim**-0.5 if scaling is None else scaling
    scores_N_H_G_T = torch.matmul(query_N_H_G_D * scale, key.transpose(-1, -2)) + attention_mask
    weights_N_H_G_T = torch.softmax(scores_N_H_G_T, dim=-1).to(value.dtype)  # the mask is fp32: so is this
    return torch.matmul(weights_N_H_G_T, value).reshape(count, 1, query_heads, value.shape[-1]), None


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
