"""Draws docs/addition.png from the table of docs/addition.md: accuracy by digits and round, with hints and without.

python scripts/addition_picture.py

It needs Playwright and a Chromium of the system.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from picture import cells, save_figure

from star_rft.report.plots.base import PALETTE, figure, round_axis

if TYPE_CHECKING:
    import plotly.graph_objects as go

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURE = DOCS / "addition.md", DOCS / "addition.png"
DIGITS = range(1, 6)
WITH_HINTS, WITHOUT = 1, 9  # the columns of one digit in the table
DIRECT = 84.2  # the best of the direct baselines, all digits together
SIZE = {"width": 1100, "height": 420}


def drawn(rows: list[list[str]]) -> go.Figure:
    rounds = [int(row[0]) for row in rows]
    picture = figure(height=SIZE["height"], width=SIZE["width"], paper_bgcolor="white", plot_bgcolor="white")
    for place, first in enumerate((WITH_HINTS, WITHOUT), start=1):
        axes = {"xaxis": f"x{place}", "yaxis": f"y{place}"}
        for digits, colour in zip(DIGITS, PALETTE, strict=False):
            values = [float(row[first + digits - 1]) if row[first + digits - 1] else None for row in rows]
            name = "1 digit" if digits == 1 else f"{digits} digits"
            line = {"color": colour, "width": 2}
            picture.add_scatter(x=rounds, y=values, name=name, line=line, showlegend=place == 1, **axes)
        every = [float(row[first + len(DIGITS)]) if row[first + len(DIGITS)] else None for row in rows]
        line = {"color": "black", "width": 3}
        picture.add_scatter(x=rounds, y=every, name="all", line=line, showlegend=place == 1, **axes)
        line = {"color": "black", "width": 1.5, "dash": "dot"}
        label = "direct fine-tuning, all"
        ends = [rounds[0], rounds[-1]]
        picture.add_scatter(x=ends, y=[DIRECT] * 2, name=label, mode="lines", line=line, showlegend=place == 1, **axes)
    for place, (title, domain) in enumerate((("with hints", (0, 0.48)), ("without hints", (0.54, 1))), start=1):
        percent = {"range": [-2, 102], "title": {"text": "held-out accuracy, %"}, "anchor": f"x{place}"}
        axis = round_axis(rounds, f"round, {title}") | {"domain": domain, "anchor": f"y{place}"}
        picture.update_layout({f"xaxis{place}": axis, f"yaxis{place}": percent})
    return picture


def main() -> int:
    return save_figure(drawn(cells(PAGE.read_text(), "| round |")), PICTURE, **SIZE)


if __name__ == "__main__":
    sys.exit(main())
