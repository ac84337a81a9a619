"""What all commands share: the application, its arguments, progress, the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from star_rft.types import UserError

app = typer.Typer(
    name="star-rft",
    help="Make a language model reason better by training it on its own verified attempts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOrRun = Annotated[str, typer.Argument(help="A config file, the name of a recipe, or a run folder.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, for example sample.n=16")]
RunDir = Annotated[Path, typer.Argument(help="A run folder, for example runs/quickstart")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def example(text: str) -> str:
    return f"Example: {text}"


def progress_of(is_quiet: bool) -> Any:
    from rich.console import Console

    from star_rft.progress import Silent
    from star_rft.report.terminal import TerminalProgress

    return Silent() if is_quiet else TerminalProgress(Console())


def run_folder(path: Path) -> Path:
    if not (path / "config.yaml").exists():
        raise UserError(f"{path}: is not a run folder: it has no config.yaml")
    return path


def write_report(folder: Path) -> Path:
    from star_rft.report.page import write_page

    return write_page(folder)
