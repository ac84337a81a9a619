"""Rendering of cards from Markdown templates, and the pieces of Markdown that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft import recipes
from star_rft.exports.card_data import CardConfig, HeldOutFigures, decision, source_words
from star_rft.report.tables import signed
from star_rft.types import RoundReport

if TYPE_CHECKING:
    from huggingface_hub import CardData

TEMPLATES = Path(__file__).parent / "templates"
HOME = "https://github.com/star-rft/star-rft"
# Counts of a round in the table of a data card, by their names in the report.
COUNTS = ("samples", "correct", "unknown", "selected", "reference_solutions", "anchor")


def card(template: str, header: CardData, run: CardConfig, **facts: Any) -> str:
    """Return a card as Markdown with its header in YAML; `facts` are names that the template reads."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"fenced": fenced, "code": code, "counted": counted, "number": "{:,}".format}
    body = environment.get_template(template).render(
        config=run.config,
        config_text=run.text,
        is_chat=run.is_chat,
        row=recipes.row(run.config),
        source_words=source_words,
        home=HOME,
        **facts,
    )
    return f"---\n{header.to_yaml()}\n---\n\n{body.strip()}\n"


def rounds_table(rounds: Sequence[int], reports: Mapping[int, RoundReport], began: Mapping[int, str]) -> str:
    """Return a row a round: what was sampled and selected, and what the gate decided on the model."""
    rows = []
    for number in rounds:
        report = reports.get(number)
        counts = [f"{getattr(report, name):,}" if report else "" for name in COUNTS]
        rows.append([str(number), began.get(number, ""), *counts, decision(report)])
    return table(["round", "began from", *COUNTS, "the gate"], rows)


def dropped_table(reports: Mapping[int, RoundReport]) -> str:
    """Return why the traces that a round could have trained on were left out, a column a round; "" where none was."""
    found = {number: report.dropped for number, report in reports.items()}
    rows = [
        [why, *(f"{dropped.get(why, 0):,}" for dropped in found.values())]
        for why in sorted({why for dropped in found.values() for why in dropped})
    ]
    return table(["left out because", *(f"round {number}" for number in found)], rows) if rows else ""


def held_out_part(found: HeldOutFigures, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return a sentence on how a split was measured, and the table of its figures."""
    purpose = "what the gate decides on" if found.split == "dev" else "which decided nothing"
    words = (
        f"`{found.split}` ({purpose}): {counted(found.problems, 'problem')}, {counted(found.n, 'sample')} each at"
        f" temperature {config['eval']['temperature']:g}, with 95% intervals by bootstrap over problems; a change is"
        " paired by problem."
    )
    if found.base is None:
        return words, table(["", "value"], [[figure.name, str(figure.after)] for figure in found.figures])
    rows = [[f.name, str(f.before or ""), str(f.after), signed(f.change) if f.change else ""] for f in found.figures]
    return words, table(["", f"round {found.base}", "this round", "change"], rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar or a line break in a cell would be read as its end."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in line) + " |" for line in lines)


def fenced(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`{3,}", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def code(text: str) -> str:
    """Return a name in code type, whatever it holds."""
    runs = re.findall("`+", text)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"`{text}`"


def counted(number: int, what: str) -> str:
    """Return "1 round", "1,000 rounds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
