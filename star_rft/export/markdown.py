"""Cards as Markdown with a YAML header, from the templates beside this file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from star_rft.types import Interval

TEMPLATES = Path(__file__).parent / "templates"
HOME = "https://github.com/star-rft/star-rft"


def card(template: str, header: Mapping[str, Any], **facts: Any) -> str:
    """Render a card; what the header has no value for is left out of it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["fenced"] = fenced
    body = environment.get_template(template).render(home=HOME, **facts)
    known = {key: value for key, value in header.items() if value is not None}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n{body.strip()}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar or a line break in a cell would be read as its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: str) -> str:
    """Return a name in code type, whatever it holds."""
    runs = re.findall("`+", text)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"`{text}`"


def interval(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def change(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def counted(number: int, what: str) -> str:
    """Return "1 round", "1,000 rounds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
