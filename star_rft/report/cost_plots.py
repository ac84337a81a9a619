"""What the run spent: time and tokens by round."""

from __future__ import annotations

from collections.abc import Iterator

from star_rft.report.facts import Facts
from star_rft.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, Plot, figure, round_axis

STAGE_COLOURS = {
    "sample": BLUE,
    "verify": SKY,
    "score": PURPLE,
    "select": ORANGE,
    "train": VERMILLION,
    "evaluate": GREEN,
    "other": GREY,
}
TOKEN_COLOURS = {"training": BLUE, "with hints": ORANGE, "held-out": GREEN}


def cost_plots(facts: Facts) -> Iterator[Plot]:
    """Yield the figures that this run has figures for."""
    if facts.reports:
        yield seconds(facts)
    if facts.tokens:
        yield tokens(facts)


def seconds(facts: Facts) -> Plot:
    """Time by round and stage."""
    stages = [stage for stage in STAGE_COLOURS if any(report.seconds.get(stage) for report in facts.reports)]
    spent = {stage: [report.seconds.get(stage, 0.0) for report in facts.reports] for stage in stages}
    rounds = [report.round for report in facts.reports]
    return _bars("seconds", "seconds by round and stage", rounds, spent, STAGE_COLOURS, unit="seconds", form=",.1f")


def tokens(facts: Facts) -> Plot:
    """Sampled tokens by round and purpose."""
    rounds = sorted({round for round, _ in facts.tokens})
    kinds = [kind for kind in TOKEN_COLOURS if any(found == kind for _, found in facts.tokens)]
    spent = {kind: [float(facts.tokens.get((round, kind), 0)) for round in rounds] for kind in kinds}
    return _bars(
        "tokens", "sampled tokens by round and purpose", rounds, spent, TOKEN_COLOURS, unit="tokens", form=",.0f"
    )


def _bars(
    name: str,
    label: str,
    rounds: list[int],
    spent: dict[str, list[float]],
    colours: dict[str, str],
    *,
    unit: str,
    form: str,
) -> Plot:
    drawn = figure(height=320, barmode="stack", bargap=0.35)
    for part, values in spent.items():
        drawn.add_bar(
            x=rounds,
            y=values,
            name=part,
            marker={"color": colours[part]},
            hovertemplate=f"{part}, round %{{x}}: %{{y:{form}}} {unit}<extra></extra>",
        )
    drawn.update_xaxes(round_axis(rounds))
    drawn.update_yaxes(title={"text": unit})
    rows = [
        [
            str(round),
            *(f"{values[at]:{form}}" for values in spent.values()),
            f"{sum(v[at] for v in spent.values()):{form}}",
        ]
        for at, round in enumerate(rounds)
    ]
    return Plot(name, label, drawn, ("round", *spent, "all"), rows)
