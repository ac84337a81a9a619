"""The protocol of losses: what a training step computes from its items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from star_rft.training.batching import Size

if TYPE_CHECKING:
    import torch
    from trl.trainer.sft_config import SFTConfig

    from star_rft.models.spec import ModelSpec
    from star_rft.training.forward import Nll
    from star_rft.training.model import LoadedModel

    Batch = dict[str, torch.Tensor]
    Load = Callable[[ModelSpec], LoadedModel]
    RowsOf = Callable[[bool], Sequence[Sequence[int]]]


class Collate(Protocol):
    """Makes a micro-batch of rows `{"members": [items]}`: a dataclass whose field `packed` says in which form."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def packed(self) -> bool:
        """Whether rows hold several items one after another instead of padding."""
        ...

    def __call__(self, rows: Iterable[Mapping[str, Sequence[int]]]) -> Batch:
        """Return the tensors of rows `{"members": [items]}`."""
        ...


class StepLoss(Protocol):
    """Items to train on, and their loss: a sum over the items of a step, divided by totals of the step."""

    @property
    def sizes(self) -> Sequence[Size]:
        """What each item takes of a micro-batch."""
        ...

    @property
    def highest_token(self) -> int:
        """The highest token id of all items."""
        ...

    @property
    def has_own_dropout(self) -> bool:
        """Whether the model's own dropout, and the noise of its routers, are on in training."""
        ...

    def content(self) -> object:
        """Return what the fingerprint of the training covers, besides its settings and its model."""
        ...

    def collator(self, rows_of: RowsOf, *, load: Load, config: SFTConfig) -> Collate:
        """Return what makes padded micro-batches of rows `{"members": [items]}`; called before the policy is loaded.

        `rows_of(packed)` are the rows of the training, if it were packed or not.
        """
        ...

    def totals(self, batch: Batch) -> torch.Tensor:
        """Return a micro-batch's share of the denominators (D)."""
        ...

    def loss(self, nll: Nll, batch: Batch, totals: torch.Tensor) -> torch.Tensor:
        """Return a micro-batch's share of the loss, by the denominators of the step (D)."""
        ...
