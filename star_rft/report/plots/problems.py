"""Plots of the train problems: how many were solved in each round, and how they moved between classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from star_rft.report.data import Facts, Flow
from star_rft.report.labels import plain
from star_rft.report.plots.base import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Plot,
    faint,
    figure,
    round_axis,
)

CLASS_COLOURS = {
    "solved": GREEN,
    "learnable": BLUE,
    "hard": ORANGE,
    "no_survivors": VERMILLION,
    "label_error": PURPLE,
    "truncated": SKY,
    "unverifiable": "#5c4a72",
    "unseen": GREY,
}
# Pixels of the flows: their height without margins, and between the classes of a round.
FLOW_HEIGHT, FLOW_PAD = 380, 16


def problem_plots(facts: Facts) -> Iterator[Plot]:
    """Yield the plots that this run has data for."""
    if any(report.problems_sampled for report in facts.trained):
        yield coverage(facts)
    if facts.flows:
        yield flows(facts.flows, [(report.round, report.classes) for report in facts.trained])


def coverage(facts: Facts) -> Plot:
    """The share of the sampled problems that were solved in a round, and of all that were trained on."""
    rounds = [report for report in facts.trained if report.problems_sampled]
    drawn = figure(height=300)
    solved = [1 - (report.unsolved or 0) / report.problems_sampled for report in rounds]
    trained = [report.trained_on_share for report in rounds]
    series = (
        ("solved in the round, of those sampled", solved, BLUE, "circle", "solid"),
        ("with a trace that was trained on, of all", trained, GREEN, "square", "dash"),
    )
    for name, values, colour, symbol, dash in series:
        drawn.add_scatter(
            x=[report.round for report in rounds],
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2.2, "dash": dash},
            marker={"symbol": symbol, "size": 8},
            hovertemplate=f"{name}, round %{{x}}: %{{y:.1%}}<extra></extra>",
        )
    drawn.update_xaxes(round_axis([report.round for report in rounds]))
    drawn.update_yaxes(tickformat=".0%", range=[0, 1.02], title={"text": "train problems"})
    rows = [
        [
            str(r.round),
            f"{r.problems_sampled:,}",
            f"{share:.1%}",
            "-" if kept is None else f"{kept:.1%}",
            f"{r.unsolved or 0:,}",
        ]
        for r, share, kept in zip(rounds, solved, trained, strict=True)
    ]
    columns = ("round", "problems sampled", "solved", "trained on", "unsolved")
    return Plot("coverage", "share of train problems solved and trained on in each round", drawn, columns, rows)


def flows(found: Sequence[Flow], counts: Sequence[tuple[int, dict[str, int]]]) -> Plot:
    """Classes of train problems after each round, and what flowed between them."""
    import plotly.graph_objects as go

    names = list(CLASS_COLOURS)
    nodes = sorted(
        {(flow.round, flow.was) for flow in found} | {(flow.later_round, flow.now) for flow in found},
        key=lambda node: (node[0], names.index(node[1])),
    )
    place = {node: number for number, node in enumerate(nodes)}
    rounds = sorted({round_index for round_index, _ in nodes})
    totals = {
        node: sum(f.problems for f in found if node in ((f.round, f.was), (f.later_round, f.now))) for node in nodes
    }
    drawn = figure(height=FLOW_HEIGHT + 42, margin={"l": 8, "r": 8, "t": 30, "b": 12})
    drawn.add_trace(
        go.Sankey(
            arrangement="snap",
            node={
                "label": [plain(name) for _, name in nodes],
                "color": [CLASS_COLOURS[name] for _, name in nodes],
                "customdata": [f"after round {round_index}" for round_index, _ in nodes],
                "x": [_across(rounds.index(round_index), len(rounds)) for round_index, _ in nodes],
                "y": _heights(nodes, totals),
                "pad": FLOW_PAD,
                "thickness": 14,
                "hovertemplate": "%{label}, %{customdata}: %{value:,} problems<extra></extra>",
            },
            link={
                "source": [place[flow.round, flow.was] for flow in found],
                "target": [place[flow.later_round, flow.now] for flow in found],
                "value": [flow.problems for flow in found],
                "color": [faint(CLASS_COLOURS[flow.was], 0.35) for flow in found],
                "hovertemplate": "%{source.label} to %{target.label}: %{value:,} problems<extra></extra>",
            },
        )
    )
    for at, round_index in enumerate(rounds):
        edge = "left" if at == 0 else "right" if at == len(rounds) - 1 else "center"
        drawn.add_annotation(
            x=at / (len(rounds) - 1),
            y=1.07,
            xref="paper",
            yref="paper",
            showarrow=False,
            xanchor=edge,
            text=f"round {round_index}",
        )
    rows = [[plain(name), *(f"{count.get(name, 0):,}" for _, count in counts)] for name in names]
    rows = [row for row in rows if any(cell != "0" for cell in row[1:])]
    columns = ("class", *(f"round {round_index}" for round_index, _ in counts))
    label = "classes of train problems after each round, and how problems moved between them"
    return Plot("flows", label, drawn, columns, rows, width=300 + 130 * len(rounds))


def _across(at: int, of: int) -> float:
    """Plotly takes 0 and 1 for "not given"."""
    return min(max(at / (of - 1), 0.001), 0.999)


def _heights(nodes: Sequence[tuple[int, str]], totals: Mapping[tuple[int, str], int]) -> list[float]:
    """Return each node's centre: a round's classes stacked from the top, so that a class stays at about one height."""
    columns = {round_index: [node for node in nodes if node[0] == round_index] for round_index, _ in nodes}
    gap = FLOW_PAD / FLOW_HEIGHT
    share = 1 - gap * (max(map(len, columns.values())) - 1)  # of the height, for nodes
    found = []
    for round_index, name in nodes:
        column = columns[round_index]
        at, whole = column.index((round_index, name)), sum(totals[node] for node in column)
        above = sum(totals[node] for node in column[:at])
        centre = share * (above + totals[round_index, name] / 2) / whole + at * gap
        found.append(min(max(centre, 0.001), 0.999))
    return found
