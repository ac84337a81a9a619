"""Questions in a terminal, each with a proposed answer; without a terminal the proposals are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from star_rft.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """`asks`: there is somebody to answer. What is shown holds data, so no markup is read in it."""

    console: Console
    asks: bool

    def say(self, text: str = "") -> None:
        self.console.print(text, markup=False, highlight=False, emoji=False)

    def line(self, text: str) -> None:
        """Show a line that may be copied: nothing but the terminal breaks it."""
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Show in a terminal that something takes its time."""
        from rich.markup import escape

        return self.console.status(escape(text))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(*headings, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)
        self.console.print()

    def settle(
        self,
        what: str,
        flag: str,
        *,
        given: str | None,
        proposal: str | None,
        check: Callable[[str], Answer],
    ) -> Answer:
        """Return the checked value of a flag, of an answer, or of the proposal, in this order.

        A wrong flag is an error; a wrong answer is told and asked for again. Raises UserError where nobody can be asked
        and nothing is proposed.
        """
        from verifiers.plugins import VerifierError

        if given is not None:
            return check(given)
        if not self.asks:
            if proposal is None:
                raise UserError(f"{what} is missing: give {flag}, or call star-rft init in a terminal, where it asks")
            return check(proposal)
        while True:
            import typer

            try:
                return check(str(typer.prompt(what, default=proposal)).strip())
            except (UserError, VerifierError) as error:
                self.say(f"  {error}")

    def agrees(self, question: str) -> bool:
        import typer

        return not self.asks or typer.confirm(question, default=True)
