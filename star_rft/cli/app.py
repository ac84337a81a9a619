"""The command line's application, with the arguments, progress and errors that all commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_rft.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from star_rft.cli.progress import TerminalProgress
    from star_rft.progress import Silent

app = typer.Typer(
    name="star-rft",
    help="Make a language model reason better by training it on its own verified attempts. Results go to standard"
    " output; progress and warnings to standard error, as plain lines where that is no terminal and under CI, NO_COLOR"
    " or TERM=dumb.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(is_wanted: bool) -> None:
    """Print one line for bug reports. Versions come from the packages' metadata: importing them takes seconds."""
    if not is_wanted:
        return
    import platform
    from importlib.metadata import version

    from star_rft import __version__

    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    typer.echo(f"star-rft {__version__} (python {platform.python_version()}, {others})")
    raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the versions and exit.")
    ] = False,
) -> None:
    """Take the options of the program itself."""


ConfigOrRun = Annotated[str, typer.Argument(help="A config file, the name of a recipe, or a run folder.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, for example sample.n=16")]
RunDir = Annotated[Path, typer.Argument(help="A run folder, for example runs/quickstart")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress: only warnings, errors and, in the end, the result.")
]
# Environment variables that switch bars and colours off.
PLAIN_UNDER = ("CI", "NO_COLOR")


def example(text: str) -> str:
    """Return the last line of a command's help."""
    return f"Example: {text}"


@contextmanager
def progress_of(is_quiet: bool, *, name: str = "", rounds: int = 0) -> Iterator[Silent | TerminalProgress]:
    """Show progress on standard error: bars in a terminal, else lines; `name` and `rounds` are those of the run.

    What verifiers, trackers and libraries print goes there too, so that standard output holds the result alone.
    """
    if is_quiet:
        from star_rft.progress import Silent

        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield Silent()
        return
    with redirect_stdout(sys.stderr):
        from rich.console import Console

        from star_rft.cli.progress import TerminalProgress

        is_plain = os.environ.get("TERM") == "dumb" or any(map(os.environ.get, PLAIN_UNDER))
        is_live = sys.stderr.isatty() and not is_plain
        console = Console(stderr=True, force_terminal=is_live, markup=False, emoji=False, highlight=False)
        with TerminalProgress(console, is_live=is_live, name=name, rounds=rounds).running() as progress:
            yield progress


def results() -> Console:
    """Return a console on standard output that prints texts unchanged: no markup, emoji or highlighting."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def run_folder(path: Path) -> Path:
    """Return the path of a run folder unchanged. Raises UserError for any other path."""
    if not (path / "config.yaml").exists():
        raise UserError(f"{path}: is not a run folder: it has no config.yaml")
    return path


def write_report(folder: Path) -> Path:
    """Write the HTML page of a run into its folder, and return its path."""
    from star_rft.report.page import write_page

    return write_page(folder)
