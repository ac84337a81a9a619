"""Plots of the training data: from samples to training sets, diversity, KL and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_rft.report.data import Facts, FunnelStep
from star_rft.report.labels import plain
from star_rft.report.plots.base import BLUE, GREEN, GREY, VERMILLION, Plot, figure, round_axis


def training_plots(facts: Facts) -> Iterator[Plot]:
    """Yield the plots that this run has data for."""
    if facts.funnels:
        yield funnel(facts.funnels)
    yield from variety(facts)


def funnel(by_round: Mapping[int, Sequence[FunnelStep]]) -> Plot:
    """Traces from sampling to training; a menu chooses the round, at first the newest."""
    rounds = list(by_round)
    tallest = max(map(len, by_round.values()))
    drawn = figure(height=70 + 46 * tallest, margin={"l": 150, "r": 12, "t": 44, "b": 12})
    for steps in by_round.values():
        drawn.add_funnel(**_bars(steps), visible=steps is by_round[rounds[-1]])
    drawn.update_yaxes(automargin=True, type="category", visible=True, showgrid=False)
    drawn.update_xaxes(visible=False)
    if len(rounds) > 1:
        drawn.update_layout(updatemenus=[_menu(rounds)])
    rows = [
        [str(round_index), step.what, f"{step.traces:,}", f"{step.dropped:,}" if step.why else "", plain(step.why)]
        for round_index, steps in by_round.items()
        for step in steps
    ]
    label = "traces from sampling to training, by the reason that they were dropped for"
    return Plot("funnel", label, drawn, ("round", "step", "traces left", "dropped", "because"), rows)


def _bars(steps: Sequence[FunnelStep]) -> dict[str, Any]:
    return {
        "y": [step.what for step in steps],
        "x": [step.traces for step in steps],
        "customdata": [f"{step.dropped:,} dropped: {plain(step.why)}" if step.why else "" for step in steps],
        "texttemplate": "%{value:,}, %{percentInitial:.0%}",
        "textposition": "auto",
        "marker": {"color": [*[BLUE] * (len(steps) - 1), GREEN]},
        "connector": {"fillcolor": "rgba(128,128,128,0.14)", "line": {"width": 0}},
        "hovertemplate": "%{y}: %{x:,}<br>%{customdata}<extra></extra>",
    }


def _menu(rounds: Sequence[int]) -> dict[str, Any]:
    buttons = [
        {
            "label": f"round {round_index}",
            "method": "update",
            "args": [{"visible": [other == round_index for other in rounds]}],
        }
        for round_index in rounds
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {"buttons": buttons, "active": len(rounds) - 1, **place}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a figure by round; an aside is drawn thin and dotted."""

    name: str
    points: Mapping[int, float]
    colour: str
    is_aside: bool = False


def variety(facts: Facts) -> Iterator[Plot]:
    """Yield diversity, KL from round 0, and length by round."""
    reports, lengths = facts.reports, facts.lengths
    ways = Line(
        "distinct solutions",
        {r.round: r.diversity["distinct_solutions"] for r in reports if "distinct_solutions" in r.diversity},
        GREEN,
    )
    kl = [
        Line(name, {r.round: r.kl[key] for r in reports if key in r.kl}, colour)
        for name, key, colour in (("own samples", "own", VERMILLION), ("reference solutions", "reference", BLUE))
    ]
    tokens = [
        Line("a tenth are longer", {length.round: length.high for length in lengths}, GREY, is_aside=True),
        Line("mean", {length.round: length.mean for length in lengths}, BLUE),
        Line("a tenth are shorter", {length.round: length.low for length in lengths}, GREY, is_aside=True),
    ]
    figures = (
        ("distinct_solutions", "distinct correct ways a problem, by round", [ways]),
        ("kl", "KL from round 0 in nats a token, by round", kl),
        ("lengths", "tokens a train sample, by round", tokens),
    )
    for name, label, lines in figures:
        if any(line.points for line in lines):
            yield _lines(name, label, [line for line in lines if line.points])


def _lines(name: str, label: str, lines: Sequence[Line]) -> Plot:
    drawn = figure(height=270, showlegend=len(lines) > 1)
    for line in lines:
        drawn.add_scatter(
            x=list(line.points),
            y=list(line.points.values()),
            name=line.name,
            mode="lines+markers",
            line={
                "color": line.colour,
                "width": 1.2 if line.is_aside else 2.2,
                "dash": "dot" if line.is_aside else "solid",
            },
            marker={"size": 4 if line.is_aside else 7, "symbol": "square" if line.colour == BLUE else "circle"},
            hovertemplate=f"{line.name}, round %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    rounds = sorted({round_index for line in lines for round_index in line.points})
    drawn.update_xaxes(round_axis(rounds))
    drawn.update_yaxes(rangemode="tozero")
    rows = [
        [
            str(round_index),
            *(f"{line.points[round_index]:.3g}" if round_index in line.points else "-" for line in lines),
        ]
        for round_index in rounds
    ]
    return Plot(name, label, drawn, ("round", *(line.name for line in lines)), rows)
