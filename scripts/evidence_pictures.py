"""Draws the pictures of docs/evidence.md from its tables: accuracy of each way to train on one ledger, and pass@k.

python scripts/evidence_pictures.py

It needs Playwright and a Chromium of the system.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picture import cells, save_figure

from star_rft.report.plots.base import PALETTE, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "evidence.md"
WIDTH = 1100
LEFT, RIGHT, WHOLE = (0.0, 0.48), (0.54, 1.0), (0.0, 1.0)
INTERVAL = re.compile(r"([\d.]+) \[([\d.]+), ([\d.]+)\]")
DOTTED = {"color": "black", "width": 1.5, "dash": "dot"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A column of the table with the beginning `head`, in a part of the picture's width; `most` is in percent."""

    title: str
    head: str
    column: int
    most: int
    domain: tuple[float, float] = WHOLE


ARMS = {
    "rft.png": [
        Panel("MAWPS, held out", "| | seeds | distinct a question", 4, 16, LEFT),
        Panel("SVAMP, of which nothing was trained on", "| | seeds | distinct a question", 6, 16, RIGHT),
    ],
    "rft_code.png": [Panel("300 held-out functions", "| | seeds | distinct a task", 6, 70)],
}
# The first column of the curves: what follows are k = 1, 2, 4, ...
CURVES = [
    Panel("100 problems of SVAMP", "| | greedy | pass@1", 2, 32, LEFT),
    Panel("60 other functions", "| | pass@1 | pass@2", 1, 70, RIGHT),
]


def interval(cell: str) -> tuple[float, float, float]:
    """Return a value and its bounds, in percent."""
    found = INTERVAL.search(cell)
    if found is None:
        raise ValueError(f"no value with an interval: {cell!r}")
    value, low, high = (100 * float(group) for group in found.groups())
    return value, low, high


def arms(page: str, panels: Sequence[Panel]) -> go.Figure:
    """Draw a row of points with intervals a panel; the table's first row is the model before."""
    drawn = _empty(height=360)
    for place, panel in enumerate(panels, start=1):
        before, *rows = cells(page, panel.head)
        names = [row[0] for row in rows]
        values, lows, highs = zip(*(interval(row[panel.column]) for row in rows), strict=True)
        errors = {
            "array": [high - value for value, high in zip(values, highs, strict=True)],
            "arrayminus": [value - low for value, low in zip(values, lows, strict=True)],
        }
        axes = {"xaxis": f"x{place}", "yaxis": f"y{place}"}
        drawn.add_scatter(
            x=values, y=names, error_x={"type": "data", **errors}, mode="markers", showlegend=False,
            marker={"size": 9, "color": PALETTE[0]}, **axes,
        )  # fmt: skip
        start = [interval(before[panel.column])[0]] * 2
        ends = [names[0], names[-1]]
        drawn.add_scatter(x=start, y=ends, mode="lines", line=DOTTED, name=before[0], showlegend=place == 1, **axes)
        text = {"text": f"{panel.title}: greedy accuracy, %"}
        drawn.update_layout({
            f"xaxis{place}": {"title": text, "domain": panel.domain, "anchor": f"y{place}", "range": [0, panel.most]},
            f"yaxis{place}": {"anchor": f"x{place}", "autorange": "reversed", "showticklabels": place == 1},
        })  # fmt: skip
    return drawn.update_layout(margin_l=180)


def curves(page: str, panels: Sequence[Panel]) -> go.Figure:
    """Draw pass@k over k, a line a model."""
    drawn = _empty(height=400)
    for place, panel in enumerate(panels, start=1):
        for row, colour in zip(cells(page, panel.head), PALETTE, strict=False):
            values = [100 * float(cell.split()[0]) for cell in row[panel.column :]]
            ks = [str(2**power) for power in range(len(values))]
            drawn.add_scatter(
                x=ks, y=values, name=row[0], mode="lines+markers", line={"color": colour, "width": 2},
                xaxis=f"x{place}", yaxis=f"y{place}", legend=_legend(place),
            )  # fmt: skip
        x_axis = {"title": {"text": "k"}, "type": "category", "domain": panel.domain, "anchor": f"y{place}"}
        y_axis = {"title": {"text": f"{panel.title}: pass@k, %"}, "anchor": f"x{place}", "range": [0, panel.most]}
        legend = {"orientation": "v", "x": panel.domain[0] + 0.01, "y": 0.99, "yanchor": "top"}
        drawn.update_layout({f"xaxis{place}": x_axis, f"yaxis{place}": y_axis, _legend(place): legend})
    return drawn


def _legend(place: int) -> str:
    return "legend" if place == 1 else f"legend{place}"


def _empty(*, height: int) -> Any:
    return figure(height=height, width=WIDTH, paper_bgcolor="white", plot_bgcolor="white")


def main() -> int:
    page = PAGE.read_text()
    pictures = {name: arms(page, panels) for name, panels in ARMS.items()} | {"pass_at_k.png": curves(page, CURVES)}
    return max(
        save_figure(drawn, DOCS / name, width=WIDTH, height=int(drawn.layout.height))
        for name, drawn in pictures.items()
    )


if __name__ == "__main__":
    sys.exit(main())
