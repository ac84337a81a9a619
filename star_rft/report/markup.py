"""The environment of the HTML templates, for the report's page and the viewer: labels, filters, escaping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from star_rft.report.labels import CLASSES, SYMBOLS, plain

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def environment(*folders: Path) -> Environment:
    """Return an environment that finds templates in these folders and then in the report's."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": "{:,}".format, "plain": plain}
    found.globals |= {"class_words": CLASSES, "symbols": SYMBOLS}
    return found
