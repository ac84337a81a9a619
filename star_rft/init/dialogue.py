"""Questions in a terminal, each with a proposed answer; without a terminal the proposed answers are taken."""

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
    """Output of `star-rft init` and its questions; `asks`: there is a person to answer them.

    Texts are shown without markup, as they may hold data.
    """

    console: Console
    asks: bool

    def say(self, text: str = "") -> None:
        """Show a text, wrapped at the width of the terminal."""
        self.console.print(text, markup=False, highlight=False, emoji=False)

    def line(self, text: str) -> None:
        """Show a line without wrapping it, so that it can be copied."""
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def busy(self, text: str) -> AbstractContextManager[object]:
        """Show that work is under way, for the time of a block."""
        from rich.markup import escape

        return self.console.status(escape(text))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show a table, with an empty line after it."""
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
        """Return a value: that of the flag if it is given, else the answer of the user, else the proposed one.

        Args:
            what: The question.
            flag: Name of the flag, for the error.
            given: Value of the flag.
            proposal: Answer that is proposed; None: nothing is.
            check: Returns the value that a text means, or raises UserError or VerifierError. A wrong answer is asked
                for again; a wrong flag or proposal is an error.

        Raises:
            UserError: The value is not given, there is nobody to ask, and nothing is proposed.
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
        """Return whether the user agrees; True where there is nobody to ask."""
        import typer

        return not self.asks or typer.confirm(question, default=True)
