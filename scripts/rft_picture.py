"""Draws docs/rft.png from the table of docs/evidence.md: held-out accuracy of each way to train on one ledger.

python scripts/rft_picture.py

It needs Playwright and a Chromium of the system.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from picture import cells, save_figure

from star_rft.report.plots import PALETTE, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURE = DOCS / "evidence.md", DOCS / "rft.png"
HEAD = "| | seeds |"
PANELS = (("MAWPS, held out", 4, (0, 0.48)), ("SVAMP, of which nothing was trained on", 6, (0.52, 1)))  # title, column
MOST = 16  # percent
SIZE = {"width": 1100, "height": 360}
INTERVAL = re.compile(r"([\d.]+) \[([\d.]+), ([\d.]+)\]")


def interval(cell: str) -> tuple[float, float, float]:
    """Return a value and its bounds, in percent."""
    found = INTERVAL.search(cell)
    if found is None:
        raise ValueError(f"no value with an interval: {cell!r}")
    value, low, high = (100 * float(group) for group in found.groups())
    return value, low, high


def drawn(rows: list[list[str]]) -> go.Figure:
    before, *arms = rows
    names = [row[0] for row in arms]
    picture = figure(height=SIZE["height"], width=SIZE["width"], paper_bgcolor="white", plot_bgcolor="white")
    for place, (title, column, domain) in enumerate(PANELS, start=1):
        values, lows, highs = zip(*(interval(row[column]) for row in arms), strict=True)
        errors = {
            "array": [high - value for value, high in zip(values, highs, strict=True)],
            "arrayminus": [value - low for value, low in zip(values, lows, strict=True)],
        }
        picture.add_scatter(
            x=values, y=names, error_x={"type": "data", **errors}, mode="markers", showlegend=False,
            marker={"size": 9, "color": PALETTE[0]}, xaxis=f"x{place}", yaxis=f"y{place}",
        )  # fmt: skip
        start = interval(before[column])[0]
        line = {"color": "black", "width": 1.5, "dash": "dot"}
        picture.add_scatter(
            x=[start, start], y=[names[0], names[-1]], mode="lines", line=line, name=before[0],
            showlegend=place == 1, xaxis=f"x{place}", yaxis=f"y{place}",
        )  # fmt: skip
        text = {"text": f"{title}: greedy accuracy, %"}
        picture.update_layout({
            f"xaxis{place}": {"title": text, "domain": domain, "anchor": f"y{place}", "range": [0, MOST]},
            f"yaxis{place}": {"anchor": f"x{place}", "autorange": "reversed", "showticklabels": place == 1},
        })  # fmt: skip
    return picture.update_layout(margin_l=150)


def main() -> int:
    return save_figure(drawn(cells(PAGE.read_text(), HEAD)), PICTURE, **SIZE)


if __name__ == "__main__":
    sys.exit(main())
