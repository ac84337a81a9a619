"""Protocols by which long work reports its progress, and `Silent`, which shows nothing; `cli/progress.py` shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from star_rft.types import RoundReport

# (items done, tokens among them) since the last call
Advance = Callable[[int, int], None]
# (step, steps in all, loss, tokens per second, learning rate)
OnStep = Callable[[int, int, float, float, float], None]


class SamplingProgress(Protocol):
    """Progress of sampling: completions are verified while the next ones are drawn."""

    def drawn(self, tokens: int, /) -> None:
        """Report that one more completion was drawn, with its number of tokens."""
        ...

    def judged(self) -> None:
        """Report that one more of the drawn completions has its verdict."""
        ...


class Progress(Protocol):
    """A display of long work. Each method opens a display for the time of a `with` block.

    `title` names the work, and `round_index` the round of the run that it belongs to, None for none.
    """

    def stage(self, title: str, total: int, /, *, round_index: int | None = None) -> AbstractContextManager[Advance]:
        """Open work of `total` items; the block reports how many more are done."""
        ...

    def sampling(
        self, title: str, total: int, /, *, done: int = 0, round_index: int | None = None
    ) -> AbstractContextManager[SamplingProgress]:
        """Open the sampling of `total` completions, of which `done` are in the ledger already."""
        ...

    def training(self, title: str, /, *, round_index: int | None = None) -> AbstractContextManager[OnStep]:
        """Open a training; the block reports each optimizer step."""
        ...

    def say(self, line: str, /) -> None:
        """Show a line of text that stays."""
        ...


@dataclass(frozen=True, slots=True)
class _SilentSampling:
    """Progress of sampling that is not shown."""

    def drawn(self, _tokens: int, /) -> None:
        return None

    def judged(self) -> None:
        return None


class Silent:
    """Progress that is not shown: the default of Python callers."""

    def stage(self, _title: str, _total: int, /, **_: object) -> AbstractContextManager[Advance]:
        """Show nothing."""
        return nullcontext(lambda _items, _tokens: None)

    def sampling(self, _title: str, _total: int, /, **_: object) -> AbstractContextManager[SamplingProgress]:
        """Show nothing."""
        return nullcontext(_SilentSampling())

    def training(self, _title: str, /, **_: object) -> AbstractContextManager[OnStep]:
        """Show nothing."""
        return nullcontext(lambda _step, _steps, _loss, _tokens_per_second, _lr: None)

    def say(self, _line: str, /) -> None:
        """Show nothing."""

    def known(self, _reports: Sequence[RoundReport]) -> None:
        """Show nothing of the rounds that are finished already."""

    def finished(self, _report: RoundReport) -> None:
        """Show nothing of a round that has ended."""


def import_tqdm() -> None:
    """Import tqdm in a notebook without its advice to install ipywidgets.

    transformers imports tqdm for bars that star-rft never shows, and the advice would be the first output of a run.
    """
    if "ipykernel" not in sys.modules:
        return
    import warnings
    from importlib import import_module

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import_module("tqdm.auto")
