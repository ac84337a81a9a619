"""The `Plot` of the report: a figure with its numbers as a table, in colours for the colour-blind too.

Figures hold no colours of text or background: the page sets those, light or dark, when it draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.types import Interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's palette.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY = "#e69f00", "#56b4e9", "#8a8f8c"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, a sentence on what it shows (for screen readers), and its numbers as a table.

    `width` is the least width in pixels at which it can be read; a narrower page scrolls it sideways.
    """

    name: str
    label: str
    figure: go.Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    width: int = 0

    @property
    def json(self) -> str:
        """The figure for a script element: Plotly writes what would end the element as an escape."""
        text: str = self.figure.to_json()
        return text


def faint(colour: str, opacity: float) -> str:
    """Return a colour with an opacity between 0 and 1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def figure(*, height: int = 340, **layout: Any) -> go.Figure:
    """Return an empty figure with the margins and the legend of all figures."""
    import plotly.graph_objects as go

    shared: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 54, "r": 12, "t": 36, "b": 44},
        "height": height,
        "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom", "traceorder": "normal"},
        "hovermode": "closest",
    }
    return go.Figure(layout={**shared, **layout})


def error_bars(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Return Plotly's error bars for intervals, as distances from their values."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [interval.high - interval.value for interval in intervals],
        "arrayminus": [interval.value - interval.low for interval in intervals],
        "thickness": 1.2,
        "width": 3,
    }


def round_axis(rounds: Sequence[int], title: str = "round") -> dict[str, Any]:
    """Return an axis of whole rounds with at most 12 ticks."""
    most = 12
    step = max(1, -(-(len(rounds) or 1) // most))
    first, last = (rounds[0], rounds[-1]) if rounds else (0, 1)
    return {
        "title": {"text": title},
        "tickmode": "linear",
        "tick0": first,
        "dtick": step,
        "range": [first - 0.4, last + 0.4],
    }
