"""How long work tells how far it is; `report/terminal.py` shows it to people."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

# (items done, tokens among them) since the last call
Advance = Callable[[int, int], None]
# (step, steps in all, loss, tokens per second)
OnStep = Callable[[int, int, float, float], None]


class Progress(Protocol):
    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open one piece of work of `total` items."""
        ...

    def training(self, title: str) -> AbstractContextManager[OnStep]: ...

    def say(self, line: str) -> None: ...


class Silent:
    """Show nothing: what Python callers get unless they ask for more."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        return nullcontext(lambda items, tokens: None)

    def training(self, title: str) -> AbstractContextManager[OnStep]:
        return nullcontext(lambda step, steps, loss, tokens_per_second: None)

    def say(self, line: str) -> None:
        return None
