"""Divides a training into steps and micro-batches, and makes their tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from star_rft.errors import TrainingError
from star_rft.training.options import TrainingOptions
from star_rft.types import Example

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that PyTorch's and TRL's losses skip


def length(example: Example) -> int:
    """Return the tokens of prompt and completion."""
    return len(example.prompt_ids) + len(example.completion_ids)


@dataclass(frozen=True, slots=True)
class Size:
    """What an item takes of a micro-batch: its sequences, the tokens of the longest, all, and those that are scored."""

    rows: int
    longest: int
    tokens: int
    scored: int


def draw_steps(items: int, *, batch_size: int, draws: int, seed: int) -> Iterator[list[int]]:
    """Yield the items of each optimizer step: one epoch after the other, each in a new random order.

    Every step holds `batch_size` items, only the last may hold fewer; none is dropped.
    """
    rng = random.Random(seed)
    waiting: list[int] = []
    while draws > 0:
        size = min(batch_size, draws)
        while len(waiting) < size:
            waiting += rng.sample(range(items), items)
        yield waiting[:size]
        waiting, draws = waiting[size:], draws - size


def split_even(step: Sequence[int], sizes: Sequence[Size], *, parts: int, packed: bool) -> list[list[int]]:
    """Cut one step into exactly `parts` micro-batches so that the largest holds as few tokens as possible.

    Neighbours in length meet, so little is padded; a step stays a random sample of the items, which is not
    so where whole steps are grouped by length. With fewer items than parts, the last parts are empty.
    """
    ordered = sorted(step, key=lambda i: -sizes[i].longest)
    low = max(_tokens([i], sizes, packed=packed) for i in ordered)
    high = _tokens(ordered, sizes, packed=packed)
    while low < high:
        middle = (low + high) // 2
        if len(_fill(ordered, sizes, limit=middle, packed=packed)) <= parts:
            high = middle
        else:
            low = middle + 1
    groups = _fill(ordered, sizes, limit=low, packed=packed)
    while len(groups) < min(parts, len(ordered)):
        largest = max(groups, key=len)
        position, half = groups.index(largest), len(largest) // 2
        groups[position : position + 1] = [largest[:half], largest[half:]]
    return groups + [[] for _ in range(parts - len(groups))]


def heaviest(groups: Sequence[Sequence[int]], sizes: Sequence[Size], *, packed: bool) -> tuple[int, int]:
    """Return the tokens of the largest of these micro-batches, padding included, and about how many are scored."""
    tokens, group = max((_tokens(group, sizes, packed=packed), group) for group in groups if group)
    scored = sum(sizes[i].scored for i in group) / sum(sizes[i].tokens for i in group)
    return tokens, math.ceil(tokens * scored)


def largest_row(groups: Sequence[Sequence[int]], sizes: Sequence[Size]) -> tuple[int, ...]:
    """Return the lengths of the sequences in the largest packed micro-batch, each as long as its item's longest."""
    group = max(groups, key=lambda group: _tokens(group, sizes, packed=True))
    return tuple(sizes[i].longest for i in group for _ in range(sizes[i].rows))


def _tokens(group: Sequence[int], sizes: Sequence[Size], *, packed: bool) -> int:
    """Return the tokens of a micro-batch, padding included, whose first item has the longest sequence."""
    if packed:
        return sum(sizes[i].tokens for i in group)
    return sizes[group[0]].longest * sum(sizes[i].rows for i in group)


def _fill(ordered: Sequence[int], sizes: Sequence[Size], *, limit: int, packed: bool) -> list[list[int]]:
    """Cut the items, longest first, into groups of at most `limit` tokens, padding included."""
    groups: list[list[int]] = []
    tokens = 0
    for i in ordered:
        # A padded row is as long as the longest of its group, which is of the first item.
        width = sizes[groups[-1][0]].longest if groups else 0
        added = sizes[i].tokens if packed else width * sizes[i].rows
        if not groups or tokens + added > limit:
            groups.append([])
            tokens, added = 0, _tokens([i], sizes, packed=packed)
        groups[-1].append(i)
        tokens += added
    return groups


@dataclass(frozen=True, slots=True)
class Collator:
    """Turn rows `{"members": [indices]}` into a micro-batch: padded on the right, or packed into one row.

    The attention mask says what is padding; models get it only where padding would count (`forward.py`). Packed
    sequences are told apart by `position_ids` that start again at 0.
    """

    examples: Sequence[Example]
    packed: bool

    def __call__(self, rows: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """Return the tensors of `pad` or `pack` over the examples of rows `{"members": [indices]}`."""
        members = [self.examples[i] for row in rows for i in row["members"]]
        # Trainer wants the same number of micro-batches every step: an empty one is two tokens of no weight.
        members = members or [Example(prompt_ids=(0, 0), completion_ids=())]
        return pack(members) if self.packed else pad(members)


def pad(members: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `labels`, `weights` and `attention_mask`, each (B, T), where T is the longest example."""
    import numpy as np
    import torch

    shape = len(members), max(length(example) for example in members)
    ids_B_T = np.zeros(shape, dtype=np.int64)
    labels_B_T = np.full(shape, IGNORED, dtype=np.int64)
    weights_B_T = np.zeros(shape, dtype=np.float32)
    mask_B_T = np.zeros(shape, dtype=np.int64)
    for row, example in enumerate(members):
        end = length(example)
        # The first token has nothing before it that could predict it.
        start = max(len(example.prompt_ids), 1)
        ids_B_T[row, :end] = example.prompt_ids + example.completion_ids
        labels_B_T[row, start:end] = ids_B_T[row, start:end]
        weights_B_T[row, start:end] = example.weight
        mask_B_T[row, :end] = 1
    arrays = {"input_ids": ids_B_T, "labels": labels_B_T, "weights": weights_B_T, "attention_mask": mask_B_T}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def pack(members: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Return the sequences of `pad` in one row (1, T) without padding, and their `position_ids`."""
    import torch

    rows = [pad([example]) for example in members]
    # With a mask transformers would take the row for one sequence.
    names = ("input_ids", "labels", "weights")
    packed = {name: torch.cat([row[name] for row in rows], dim=1) for name in names}
    positions = [torch.arange(row["input_ids"].shape[1]) for row in rows]
    return {**packed, "position_ids": torch.cat(positions)[None]}


# The tokens of a micro-batch, about, unless its size is given. On a CPU, larger ones gain no more in the kernels
# than they lose by padding (benchmarks/train.py --sweep).
MICRO_BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class Plan:
    """Micro-batches in order, `parts` of them an optimizer step and rank."""

    rows: list[list[int]]
    parts: int
    tokens_of_step: list[int]


def make_plan(sizes: Sequence[Size], options: TrainingOptions, *, device: str, ranks: int, packed: bool) -> Plan:
    """Fix which items meet in which micro-batch: the same on every rank, and after a resume."""
    if options.max_steps is not None:
        draws = options.max_steps * options.batch_size
    elif options.epochs is not None:
        draws = math.ceil(options.epochs * len(sizes))
    else:
        raise TrainingError("epochs and max_steps are both None: give one")
    budget = MICRO_BATCH_TOKENS.get(device, MICRO_BATCH_TOKENS["cuda"])
    size = options.micro_batch_size or max(1, round(budget * len(sizes) / sum(item.tokens for item in sizes)))
    parts = math.ceil(min(options.batch_size, draws) / (size * ranks)) * ranks
    steps = list(draw_steps(len(sizes), batch_size=options.batch_size, draws=draws, seed=options.seed))
    rows = [row for step in steps for row in split_even(step, sizes, parts=parts, packed=packed)]
    return Plan(rows, parts // ranks, [sum(sizes[i].tokens for i in step) for step in steps])
