"""Plots of the held-out scores: by round, by k and by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from star_rft.report.data import HeldOutCurve
from star_rft.report.plots.base import (
    BLUE,
    GREEN,
    GREY,
    PALETTE,
    PURPLE,
    SKY,
    VERMILLION,
    Plot,
    error_bars,
    faint,
    figure,
    round_axis,
)

SPREAD = 0.05  # rounds between neighbouring measures, so that their intervals do not hide each other


def by_round(found: Sequence[HeldOutCurve]) -> Plot:
    """pass@k, maj@k of the largest k, and greedy, by round."""
    names = _measures(found)
    rounds = [measured.round for measured in found]
    drawn = figure(height=380)
    for place, name in enumerate(names):
        has = [measured for measured in found if name in measured.named]
        values = [measured.named[name] for measured in has]
        drawn.add_scatter(
            x=[measured.round + (place - (len(names) - 1) / 2) * SPREAD for measured in has],
            y=[interval.value for interval in values],
            error_y=error_bars(values),
            name=name,
            mode="lines+markers",
            line={"color": _colour(name, place), "width": 2.6 if name == "pass@1" else 1.6, "dash": _dash(name)},
            marker={"symbol": _symbol(name), "size": 8},
            customdata=[[measured.round, str(interval)] for measured, interval in zip(has, values, strict=True)],
            hovertemplate=f"{name}, round %{{customdata[0]}}: %{{customdata[1]}}<extra></extra>",
        )
    drawn.update_xaxes(round_axis(rounds))
    drawn.update_yaxes(range=[0, 1.02], tickformat=".0%")
    rows = [[str(m.round), *(str(m.named[name]) if name in m.named else "-" for name in names)] for m in found]
    first, last = found[0], found[-1]
    label = (
        f"pass@1 on {last.problems} held-out problems went from {first.named['pass@1'].value:.3f} in round"
        f" {first.round} to {last.named['pass@1'].value:.3f} in round {last.round}; bars are 95% intervals"
        if "pass@1" in last.named
        else "held-out scores by round, with 95% intervals"
    )
    return Plot("by_round", label, drawn, ("round", *names), rows)


def _measures(found: Sequence[HeldOutCurve]) -> list[str]:
    """Return pass@k of each k, maj@k of the largest k, and greedy: more lines could not be told apart."""
    names = {name for measured in found for name in measured.named}
    passes = sorted((name for name in names if name.startswith("pass@")), key=_k)
    votes = sorted((name for name in names if name.startswith("maj@")), key=_k)
    return [*passes, *votes[-1:], *(["greedy"] if "greedy" in names else [])]


def _k(name: str) -> int:
    return int(name.partition("@")[2])


def _colour(name: str, place: int) -> str:
    if name == "greedy":
        return GREY
    return PURPLE if name.startswith("maj@") else (BLUE, GREEN, VERMILLION, SKY, *PALETTE)[place % 8]


def _dash(name: str) -> str:
    return "dot" if name == "greedy" else "dash" if name.startswith("maj@") else "solid"


def _symbol(name: str) -> str:
    if name == "greedy":
        return "diamond"
    return "square" if name.startswith("maj@") else "circle" if name == "pass@1" else "triangle-up"


def curves(found: Sequence[HeldOutCurve], *, chosen: int) -> Plot:
    """pass@k against k: the model that the loop started from, the chosen round's, and the others faintly."""
    first = found[0].round
    drawn = figure(height=380)
    for measured in found:
        is_named = measured.round in (first, chosen)
        ks = list(measured.curve)
        colour = GREY if measured.round == first else VERMILLION if measured.round == chosen else SKY
        if is_named and len(ks) > 1:
            drawn.add_scatter(**_band(measured, colour))
        drawn.add_scatter(
            x=ks,
            y=[measured.curve[k].value for k in ks],
            name=_said(measured.round, first, chosen),
            mode="lines+markers",
            line={
                "color": colour,
                "width": 2.6 if is_named else 1.2,
                "dash": "dash" if measured.round == first else "solid",
            },
            marker={"size": 7 if is_named else 4, "symbol": "circle" if measured.round != first else "square"},
            customdata=[str(measured.curve[k]) for k in ks],
            hovertemplate=f"round {measured.round}, pass@%{{x}}: %{{customdata}}<extra></extra>",
        )
    ks = sorted({k for measured in found for k in measured.curve})
    drawn.update_xaxes(
        type="log", title={"text": "k, samples a problem"}, tickvals=_few(ks), ticktext=list(map(str, _few(ks)))
    )
    drawn.update_yaxes(range=[0, 1.02], tickformat=".0%", title={"text": "pass@k"})
    rows = [[str(k), *(str(m.curve[k]) if k in m.curve else "-" for m in found)] for k in ks]
    columns = ("k", *(f"round {measured.round}" for measured in found))
    return Plot("curves", "pass@k against k for each round; bands are 95% intervals", drawn, columns, rows)


def _band(measured: HeldOutCurve, colour: str) -> dict[str, object]:
    ks = list(measured.curve)
    lows, highs = ([getattr(measured.curve[k], end) for k in ks] for end in ("low", "high"))
    return {
        "x": [*ks, *reversed(ks)],
        "y": [*highs, *reversed(lows)],
        "fill": "toself",
        "fillcolor": faint(colour, 0.16),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _said(round_index: int, first: int, chosen: int) -> str:
    if round_index == first:
        return f"round {round_index} (before)"
    return f"round {round_index} (the one to use)" if round_index == chosen else f"round {round_index}"


def _few(ks: Sequence[int]) -> list[int]:
    """Return powers of two and the ends, for ticks that do not overlap."""
    return sorted({k for k in ks if k & (k - 1) == 0} | {ks[0], ks[-1]}) if ks else []


def by_group(found: Sequence[HeldOutCurve], *, what: str) -> Plot:
    """pass@1 of each group, a row, in each round, a column."""
    import plotly.graph_objects as go

    groups = list(found[0].by_group)
    rounds = [str(measured.round) for measured in found]
    # Shares in whole per cent: a cell holds a short number, and the page need not round.
    cells = [[_percent(measured.by_group.get(group)) for measured in found] for group in groups]
    drawn = figure(height=130 + 32 * len(groups))
    drawn.add_trace(
        go.Heatmap(
            x=rounds,
            y=groups,
            z=cells,
            zmin=0,
            zmax=100,
            texttemplate="%{z:.0f}",
            colorscale="Cividis",
            xgap=2,
            ygap=2,
            colorbar={"ticksuffix": "%", "outlinewidth": 0, "thickness": 12},
            hovertemplate=f"{what} %{{y}}, round %{{x}}: %{{z:.1f}}%<extra></extra>",
        )
    )
    drawn.update_xaxes(title={"text": "round"}, type="category", showgrid=False)
    # Groups are names, also if they look like numbers; the first one is at the top, as in the table.
    drawn.update_yaxes(title={"text": what}, type="category", autorange="reversed", showgrid=False, automargin=True)
    rows = [[group, *map(_cell, row)] for group, row in zip(groups, cells, strict=True)]
    return Plot("by_group", f"pass@1 by {what} and round", drawn, (what, *(f"round {r}" for r in rounds)), rows)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _cell(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}%"


def held_out_plots(found: Sequence[HeldOutCurve], *, chosen: int, what: str) -> Iterator[Plot]:
    """Yield the plots that this run has data for."""
    if not found:
        return
    yield by_round(found)
    if found[0].n > 1:
        yield curves(found, chosen=chosen)
    if found[0].by_group:
        yield by_group(found, what=what)
