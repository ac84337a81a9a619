"""Progress of long work as its callers report it; `cli/progress.py` shows it."""

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
    """Completions are drawn, and judged while the next ones are drawn."""

    def drawn(self, tokens: int) -> None:
        """One more completion, of so many tokens."""
        ...

    def judged(self) -> None:
        """One more of those drawn has its verdict."""
        ...


class Progress(Protocol):
    """`title` says what is done; `round_index`, where there is one, for which round of the run."""

    def stage(self, title: str, total: int, *, round_index: int | None = None) -> AbstractContextManager[Advance]:
        """Open one piece of work of `total` items."""
        ...

    def sampling(
        self, title: str, total: int, *, done: int = 0, round_index: int | None = None
    ) -> AbstractContextManager[SamplingProgress]:
        """Open the drawing of `total` completions, of which `done` are in the ledger already."""
        ...

    def training(self, title: str, *, round_index: int | None = None) -> AbstractContextManager[OnStep]: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Unseen:
    """Sampling that nobody watches."""

    def drawn(self, tokens: int) -> None:
        return None

    def judged(self) -> None:
        return None


class Silent:
    """Show nothing: what Python callers get unless they ask for more."""

    def stage(self, title: str, total: int, *, round_index: int | None = None) -> AbstractContextManager[Advance]:
        return nullcontext(lambda items, tokens: None)

    def sampling(
        self, title: str, total: int, *, done: int = 0, round_index: int | None = None
    ) -> AbstractContextManager[SamplingProgress]:
        return nullcontext(Unseen())

    def training(self, title: str, *, round_index: int | None = None) -> AbstractContextManager[OnStep]:
        return nullcontext(lambda step, steps, loss, tokens_per_second, lr: None)

    def say(self, line: str) -> None:
        return None

    def known(self, reports: Sequence[RoundReport]) -> None:
        return None

    def finished(self, report: RoundReport) -> None:
        return None


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
