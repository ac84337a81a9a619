"""Progress displays: live in a terminal, lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from star_rft.report.tables import round_lines
from star_rft.types import RoundReport

REFRESHES = 5.0  # a second
WINDOW = 30.0  # seconds that a rate looks back
LINE_EVERY, LINE_AT_MOST_EVERY = 10.0, 60.0  # seconds between lines where the output is not a terminal
# the title, the count, the speed, the time left; a bar stands after the title
JUSTIFIED: Final[tuple[JustifyMethod, ...]] = ("left", "right", "left", "right")
FOR_ECHO = 4  # columns for the ^C of a terminal, which would else wrap and leave the display one line too low
BARS_FROM, SPEED_FROM = 66, 52  # columns; below there is no room for them


@dataclass(slots=True)
class Pace:
    """The speed of a piece of work over the last `WINDOW` seconds. Times are of `time.monotonic`."""

    began: float
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def mark(self, now: float, count: int) -> None:
        """Record the count at a time; a record every quarter of a second is enough.

        One record older than the window is kept, because after a pause there would be none to measure from.
        """
        if self._marks and now - self._marks[-1][0] < 0.25:
            return
        self._marks.append((now, count))
        while len(self._marks) > 1 and now - self._marks[1][0] > WINDOW:
            self._marks.popleft()

    def speed(self, now: float, count: int) -> float:
        """Return items a second."""
        since, before = self._marks[0] if self._marks and now - self.began > WINDOW else (self.began, 0)
        return (count - before) / max(now - since, 1e-9)


@dataclass(slots=True)
class Row:
    """A line of the display: `done` of `total` items, of which `already` were done before; `text` is the speed."""

    title: str
    total: int | None
    already: int = 0
    done: int = 0
    text: str = ""
    is_timed: bool = True
    tokens: int = 0
    pace: Pace = field(default_factory=lambda: Pace(monotonic()))
    token_pace: Pace = field(default_factory=lambda: Pace(monotonic()))

    def __post_init__(self) -> None:
        self.done = self.already

    def move(self, items: int, tokens: int = 0) -> None:
        """Add items that are done, with their tokens."""
        self.done, self.tokens, now = self.done + items, self.tokens + tokens, monotonic()
        self.pace.mark(now, self.done - self.already)
        self.token_pace.mark(now, self.tokens)
        if self.tokens:
            self.text = f"{self.token_pace.speed(now, self.tokens):,.0f} tokens/s"

    @property
    def speed(self) -> float:
        """Items a second, without those that were done before."""
        return self.pace.speed(monotonic(), self.done - self.already)

    @property
    def count(self) -> str:
        """The items done, "3 of 8", or "3" where the total is not known."""
        return f"{self.done:,}" + (f" of {self.total:,}" if self.total is not None else "")

    @property
    def left(self) -> str:
        """The estimated time left, such as "2 min 5 s left"; empty where it is not known yet."""
        if not self.is_timed or self.total is None or self.done <= self.already or self.done >= self.total:
            return ""
        return f"{in_words((self.total - self.done) / self.speed)} left" if self.speed > 0 else ""


class TerminalProgress:
    """Progress on a console: bars where `is_live`, else a line every ten seconds, later every minute.

    `name` and `rounds` are those of the run, for the headline; a run of 0 rounds is only evaluated. Texts are printed
    unchanged: what a model or a user wrote is never read as markup.
    """

    def __init__(self, console: Console, *, is_live: bool | None = None, name: str = "", rounds: int = 0) -> None:
        self.console = console
        self.is_live = console.is_terminal and not console.is_dumb_terminal if is_live is None else is_live
        self.is_live &= not console.is_jupyter  # where rich draws with ipywidgets, and warns if there are none
        self.name, self.rounds = name, rounds
        self._rows: Sequence[Row] = ()
        self._round: int | None = None
        self._live: Live | None = None
        self._began = self._said = self._round_began = monotonic()
        self._round_seconds: list[float] = []
        self._spinner = Spinner("dots")
        self._widths = [0] * len(JUSTIFIED)

    @contextmanager
    def running(self) -> Iterator[TerminalProgress]:
        """Keep one display for all work in the block; without this, each piece of work has its own."""
        if not self.is_live or self._live is not None:
            yield self
            return
        self._live = Live(
            get_renderable=self._display,
            console=self.console,
            refresh_per_second=REFRESHES,
            transient=True,
        )
        try:
            with self._live:
                yield self
        finally:
            self._live = None

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._print(line)

    def finished(self, report: RoundReport) -> None:
        """Print the results of a round, and use its duration to estimate those of the next."""
        self._round_began = monotonic()
        self._round = min(report.round + 1, self.rounds)
        if report.round > 0:
            self._round_seconds.append(sum(report.seconds.values()))
        width = self.console.width if self.is_live else None
        for line in round_lines(report, rounds=self.rounds, width=width):
            self._print(line)

    def known(self, reports: Sequence[RoundReport]) -> None:
        """Use rounds that were finished before to estimate the time left."""
        self._round = min(len(reports), self.rounds) if reports else None
        self._round_seconds += [sum(report.seconds.values()) for report in reports if report.round > 0]

    @contextmanager
    def stage(self, title: str, total: int, *, round_index: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """Show a piece of work of `total` items, with tokens a second if there are tokens."""
        row = Row(title, total)
        with self._shown(round_index, row) as finish:

            def advance(items: int, tokens: int) -> None:
                row.move(items, tokens)
                self._line()

            yield advance
            finish(f"{row.done:,}", f", {row.tokens:,} tokens" if row.tokens else "")

    @contextmanager
    def sampling(self, title: str, total: int, *, done: int = 0, round_index: int | None = None) -> Iterator[TwoRows]:
        """Show the completions that are drawn, with tokens a second, and below them those that are verified."""
        verifying = Row("verifying", total, already=done, is_timed=False)
        rows = TwoRows(Row(title, total, already=done), verifying, self._line)
        with self._shown(round_index, rows.drawing, rows.verifying) as finish:
            yield rows
            already = f" ({done:,} of them before)" if done else ""
            finish(f"{rows.drawing.done:,}{already}", f", {rows.drawing.tokens:,} tokens")

    @contextmanager
    def training(
        self, title: str, *, round_index: int | None = None
    ) -> Iterator[Callable[[int, int, float, float, float], None]]:
        """Show the steps of a training, with loss and tokens a second."""
        row, last_loss = Row(title, None), None
        with self._shown(round_index, row) as finish:

            def on_step(step: int, steps: int, loss: float, tokens_per_second: float, _lr: float) -> None:
                nonlocal last_loss
                if row.total is None:  # a training that is resumed begins in the middle
                    row.total, row.already, row.done = steps, step - 1, step - 1
                row.move(1)
                last_loss, row.text = loss, f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s"
                self._line()

            yield on_step
            finish(f"{row.done:,} steps", "" if last_loss is None else f", loss {last_loss:.3f}")

    @contextmanager
    def _shown(self, round_index: int | None, *rows: Row) -> Iterator[Callable[[str, str], None]]:
        self._rows, self._round = rows, round_index if round_index is not None else self._round
        self._widths = [0] * len(JUSTIFIED)
        self._said = began = monotonic()
        where = f"round {round_index}: " if round_index is not None else ""

        def finish(what: str, more: str) -> None:
            self._print(f"  {where}{rows[0].title}: {what} in {monotonic() - began:.1f} s{more}", style="dim")

        try:
            with self.running() if self._live is None else nullcontext():
                yield finish
        finally:
            self._rows = ()

    def _line(self) -> None:
        """Without bars, print a line about the work if enough time has passed since the last one."""
        now = monotonic()
        if self.is_live or now - self._said < LINE_EVERY:
            return
        first = self._rows[0]
        if now - self._said < min((now - first.pace.began) / 6, LINE_AT_MOST_EVERY):
            return
        self._said = now
        where = f"round {self._round} of {self.rounds}: " if self._round is not None and self.rounds else ""
        queued = [f"{row.title} {row.text}" for row in self._rows[1:]]
        said = [f"{where}{first.title}: {first.count}", first.text, *queued, first.left]
        self._print(", ".join(part for part in said if part))

    def _print(self, line: str, style: str = "") -> None:
        """Print a line; in a terminal a styled one is cut to its width, because it matters least."""
        is_cut = self.is_live and bool(style)
        text = Text(line, style=style, no_wrap=is_cut, overflow="ellipsis" if is_cut else "fold")
        self.console.print(text, soft_wrap=not self.is_live, highlight=False)

    def _display(self) -> RenderableType:
        width = self.console.width - FOR_ECHO
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.width = width
        has_bars, has_speed = width >= BARS_FROM, width >= SPEED_FROM
        cells = [(row.title, row.count, row.text if has_speed else "", row.left) for row in self._rows]
        # With room for bars a column never shrinks, so that nothing moves when a number loses a digit.
        self._widths = [max(column) for column in zip(self._widths, *(map(len, texts) for texts in cells), strict=True)]
        for least, justify in zip(self._widths, JUSTIFIED, strict=True):
            table.add_column(justify=justify, min_width=least if has_bars else None, no_wrap=True, overflow="ellipsis")
            if has_bars and len(table.columns) == 1:
                table.add_column(ratio=1)
        for row, (title, *texts) in zip(self._rows, cells, strict=True):
            bar = [ProgressBar(total=row.total, completed=row.done)] if has_bars else []
            table.add_row(Text(title), *bar, *map(Text, texts))
        return Group(self._headline(), table)

    def _headline(self) -> RenderableType:
        parts = [self.name] if self.name else []
        if self._round is not None and self.rounds:
            parts.append(f"round {self._round} of {self.rounds}")
        parts.append(f"{in_words(monotonic() - self._began)}{self._all_left()}")
        frame = self._spinner.render(monotonic())
        return Text.assemble(f"{frame} ", (", ".join(parts), "bold"), no_wrap=True, overflow="ellipsis")

    def _all_left(self) -> str:
        """Return the estimated time that the run still takes, from its finished rounds."""
        if not self._round_seconds or self._round is None:
            return ""
        each = sum(self._round_seconds) / len(self._round_seconds)
        left = each * (self.rounds - self._round + 1) - (monotonic() - self._round_began)
        return f", about {in_words(left)} left" if left > 0 else ""


@dataclass(slots=True)
class TwoRows:
    """Two lines for sampling: completions drawn, and completions verified meanwhile."""

    drawing: Row
    verifying: Row
    tell: Callable[[], None]

    def drawn(self, tokens: int) -> None:
        """Count a completion as drawn, with its number of tokens."""
        self.drawing.move(1, tokens)
        self._queue()

    def judged(self) -> None:
        """Count a completion as verified."""
        self.verifying.move(1)
        self._queue()
        self.tell()

    def _queue(self) -> None:
        queued = self.drawing.done - self.verifying.done
        self.verifying.text = f"{self.verifying.speed:,.0f}/s, {queued:,} queued"


def in_words(seconds: float) -> str:
    """Return a duration in words, rounded as an estimate should be: "40 s", "3 min 5 s", "2 h 10 min"."""
    whole = max(1, int(seconds + 0.5))
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes < 10 else f"{minutes} min"
