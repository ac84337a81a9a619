"""Batches of sequences of like length, and the tensors that they become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def by_length(lengths: Sequence[int], *, batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of each batch, longest first: a batch that is too large for the memory fails at once.

    A batch holds at most `batch_tokens` tokens, padding included, but at least one sequence.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def pad(rows: Sequence[Sequence[int]], *, pad_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask`, each (B, T), padded on the right."""
    import torch

    longest = max(map(len, rows))
    ids_B_T = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask_B_T = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids_B_T.to(device), "attention_mask": mask_B_T.to(device)}
