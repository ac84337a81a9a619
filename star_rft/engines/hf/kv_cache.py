"""A key/value cache of slots: one copy of a prompt for all its samples; rows are replaced in place.

transformers' DynamicCache grows by copying itself at every step, has one length for the whole batch and a
copy of the prompt for every sample. Here a row is a *prefix* (its prompt, shared) and a *suffix* of its own.
Reading keys and values is what a decoding step on a CPU costs beyond the products with the weights: a prefix
is read once a step for all its rows, and suffixes are read up to the longest active completion.

Axes: B suffix slots, N active rows (slots 0..N-1), P active prefixes (prefix slots 0..P-1), M rows of the
largest prefix, H key/value heads, G query heads a key/value head, T positions, D head dimension, X any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

FIRST_POSITIONS = 32  # suffix positions allocated at first; doubled when they are full


@dataclass(slots=True)
class Prefix:
    """A prompt in the cache, without its last token. `users` counts its requests that wait or are decoded."""

    slot: int
    length: int
    users: int


@dataclass(frozen=True, slots=True)
class SlotWrite:
    """A row before a step: how many suffix positions it has written after its prefix."""

    prefix: Prefix
    written: int


@dataclass(frozen=True, slots=True)
class Aim:
    """Where one step reads and writes: row n writes suffix position `positions_N[n]`.

    Rows that share a prefix are gathered in a grid of P prefixes by M rows, M being the most rows of a prefix, so that
    one batched product reads each prefix once for all of them. Places of the grid without a row hold zeros.
    """

    rows_N: torch.Tensor
    positions_N: torch.Tensor
    lengths_N: torch.Tensor  # of the rows' prefixes
    grid_N: torch.Tensor  # of each row, its place in the flattened grid: prefix slot * M + index among its rows
    prefixes: int
    members: int
    prefix_width: int
    suffix_width: int
    # Filled during the step: the masks made for it, and the layer that returned the keys of an id. Attention takes the
    # layer from there, and so refuses a model that passes other masks or changed keys.
    masks: list[torch.Tensor] = field(default_factory=list)
    layers: dict[int, SlotLayer] = field(default_factory=dict)

    def to_grid(self, rows_N_H_G_X: torch.Tensor) -> torch.Tensor:
        """Gather the rows of each prefix, so that one product serves them all: grid_P_H_(M*G)_X."""
        _, heads, group, width = rows_N_H_G_X.shape
        grid = rows_N_H_G_X.new_zeros(self.prefixes * self.members, heads, group, width)
        grid[self.grid_N] = rows_N_H_G_X
        grid = grid.view(self.prefixes, self.members, heads, group, width).transpose(1, 2)
        return grid.reshape(self.prefixes, heads, self.members * group, width)

    def from_grid(self, grid_P_H_MG_X: torch.Tensor) -> torch.Tensor:
        """Undo `to_grid`: rows_N_H_G_X."""
        _, heads, members_group, width = grid_P_H_MG_X.shape
        group = members_group // self.members
        grid = grid_P_H_MG_X.view(self.prefixes, heads, self.members, group, width).transpose(1, 2)
        return grid.reshape(self.prefixes * self.members, heads, group, width)[self.grid_N]


# Of the step that is being computed: transformers passes no such argument through to attention and masks.
AIM: ContextVar[Aim | None] = ContextVar("AIM", default=None)


class SlotCache(Cache):
    """Keys and values of a batch of rows. Each forward of N rows runs inside of `aim`."""

    def __init__(self, like: DynamicCache, *, rows: int, longest_prefix: int) -> None:
        """Allocate for `rows` rows, with the heads and dimensions that `like` holds."""
        self.slots = [SlotLayer(layer, rows, longest_prefix) for layer in like.layers]
        self.pretended_length: int | None = None  # what `get_seq_length` returns instead, in a check of `support.py`
        super().__init__(layers=[*self.slots])

    @contextmanager
    def aim(self, rows: Sequence[SlotWrite]) -> Iterator[None]:
        """Set where the forward inside this context writes: row n at its next position. Attention and masks read it."""
        members: Counter[int] = Counter()
        place = []  # of each row, its index among the rows of its prefix
        for row in rows:
            place.append(members[row.prefix.slot])
            members[row.prefix.slot] += 1
        most = max(members.values())
        grid = [row.prefix.slot * most + m for row, m in zip(rows, place, strict=True)]
        lengths = [row.prefix.length for row in rows]
        positions = [row.written for row in rows]
        # One transfer to the device for all three.
        table_3_N = torch.tensor([positions, grid, lengths], device=self.slots[0].suffix_keys_B_H_D_T.device)
        aim = Aim(
            rows_N=torch.arange(len(rows), device=table_3_N.device),
            positions_N=table_3_N[0],
            lengths_N=table_3_N[2],
            grid_N=table_3_N[1],
            prefixes=max(members) + 1,
            members=most,
            prefix_width=max(lengths),
            suffix_width=max(positions) + 1,
        )
        for layer in self.slots:
            layer.aim(aim)
        token = AIM.set(aim)
        try:
            yield
        finally:
            AIM.reset(token)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the longest prefix plus the longest suffix: rows differ, and transformers takes one number."""
        return self.slots[0].get_seq_length() if self.pretended_length is None else self.pretended_length

    def admit(self, prefix: Prefix, prompts: DynamicCache, row: int) -> None:
        """Copy the prefilled prompt in `row` of `prompts` into the slot of `prefix`."""
        prompt: Any  # transformers does not say that an attention layer has keys
        if prefix.length > 0:
            for layer, prompt in zip(self.slots, prompts.layers, strict=True):
                layer.admit(prefix, prompt.keys[row], prompt.values[row])

    def move_row(self, source: int, target: int, length: int) -> None:
        """Overwrite suffix slot `target` with the first `length` positions of slot `source`."""
        for layer in self.slots:
            layer.suffix_keys_B_H_D_T[target, :, :, :length] = layer.suffix_keys_B_H_D_T[source, :, :, :length]
            layer.suffix_values_B_H_T_D[target, :, :length] = layer.suffix_values_B_H_T_D[source, :, :length]

    def move_prefix(self, prefix: Prefix, target: int) -> None:
        """Move a prefix to another slot."""
        for layer in self.slots:
            layer.prefix_keys_P_H_D_T[target] = layer.prefix_keys_P_H_D_T[prefix.slot]
            layer.prefix_values_P_H_T_D[target] = layer.prefix_values_P_H_T_D[prefix.slot]
        prefix.slot = target


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a SlotCache. Keys lie transposed: a product with them then reads memory in order.

    Everything starts as zeros, because a masked position still enters a product, where 0 x NaN would be NaN.
    """

    is_sliding = False  # a sliding layer keeps every key too: its mask hides them

    def __init__(self, like: Any, rows: int, longest_prefix: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _, heads, _, key_dim = like.keys.shape
        value_dim = like.values.shape[-1]
        self.prefix_keys_P_H_D_T = like.keys.new_zeros(1, heads, key_dim, longest_prefix)
        self.prefix_values_P_H_T_D = like.values.new_zeros(1, heads, longest_prefix, value_dim)
        self.suffix_keys_B_H_D_T = like.keys.new_zeros(rows, heads, key_dim, FIRST_POSITIONS)
        self.suffix_values_B_H_T_D = like.values.new_zeros(rows, heads, FIRST_POSITIONS, value_dim)
        self.aimed: Aim | None = None
        self.is_initialized = True

    def aim(self, aim: Aim) -> None:
        """Set where the next `update` writes, and make room for it."""
        self.aimed = aim
        while aim.suffix_width > self.suffix_keys_B_H_D_T.shape[3]:
            self.suffix_keys_B_H_D_T = _doubled(self.suffix_keys_B_H_D_T, dim=3)
            self.suffix_values_B_H_T_D = _doubled(self.suffix_values_B_H_T_D, dim=2)

    def admit(self, prefix: Prefix, keys_H_T_D: torch.Tensor, values_H_T_D: torch.Tensor) -> None:
        """Copy a prompt's keys and values into its slot; what they hold beyond `prefix.length` is padding."""
        while prefix.slot >= len(self.prefix_keys_P_H_D_T):
            self.prefix_keys_P_H_D_T = _doubled(self.prefix_keys_P_H_D_T, dim=0)
            self.prefix_values_P_H_T_D = _doubled(self.prefix_values_P_H_T_D, dim=0)
        length = prefix.length
        self.prefix_keys_P_H_D_T[prefix.slot, :, :, :length] = keys_H_T_D[:, :length].transpose(-1, -2)
        self.prefix_values_P_H_T_D[prefix.slot, :, :length] = values_H_T_D[:, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one new position a row; return the suffixes, keys_N_H_T_D and values_N_H_T_D."""
        assert self.aimed is not None
        rows_N, positions_N, width = self.aimed.rows_N, self.aimed.positions_N, self.aimed.suffix_width
        self.suffix_keys_B_H_D_T[rows_N, :, :, positions_N] = key_states[:, :, 0]
        self.suffix_values_B_H_T_D[rows_N, :, positions_N] = value_states[:, :, 0]
        keys_N_H_T_D = self.suffix_keys_B_H_D_T[: len(rows_N), :, :, :width].transpose(-1, -2)
        self.aimed.layers[id(keys_N_H_T_D)] = self
        self.keys = keys_N_H_T_D  # kept until the next step, so that no other tensor gets its id
        return keys_N_H_T_D, self.suffix_values_B_H_T_D[: len(rows_N), :, :width]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: all tensors are allocated in the constructor."""

    # Models read these while they prepare a step. Positions and masks are given to them, so no result depends on it.
    def get_seq_length(self) -> int:
        """Return the longest sequence before the current step."""
        return 0 if self.aimed is None else self.aimed.prefix_width + self.aimed.suffix_width - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of keys and the first one's position, as transformers sizes a mask by."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: no limit of the cache's own."""
        return -1


def _doubled(tensor: torch.Tensor, *, dim: int) -> torch.Tensor:
    return torch.cat([tensor, torch.zeros_like(tensor)], dim=dim)
