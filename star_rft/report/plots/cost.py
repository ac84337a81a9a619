"""Plots of cost: time and tokens by round, and when each resource was at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from star_rft.report.data import Facts
from star_rft.report.plots.base import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, Plot, figure, round_axis
from star_rft.runs.timing import RESOURCES, Resource, Span

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
    """Yield the plots that this run has data for."""
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
    rounds = sorted({round_index for round_index, _ in facts.tokens})
    kinds = [kind for kind in TOKEN_COLOURS if any(found == kind for _, found in facts.tokens)]
    spent = {kind: [float(facts.tokens.get((round_index, kind), 0)) for round_index in rounds] for kind in kinds}
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
            str(round_index),
            *(f"{values[at]:{form}}" for values in spent.values()),
            f"{sum(v[at] for v in spent.values()):{form}}",
        ]
        for at, round_index in enumerate(rounds)
    ]
    return Plot(name, label, drawn, ("round", *spent, "all"), rows)


COLOURS = {
    **STAGE_COLOURS,
    "sampling": BLUE,
    "evaluating": GREEN,
    "trying temperatures": PURPLE,
}
NEAR = 0.004  # of the whole: spans of one stage that are nearer than this are drawn as one bar
LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Use:
    """How a resource spent the time of the run, in seconds."""

    resource: Resource
    busy: float
    blocked: float
    wall: float

    @property
    def share(self) -> float:
        """Work over time: above 1 where several verifiers worked at once."""
        return self.busy / max(self.wall, LEAST)

    @property
    def idle(self) -> float:
        """The share of the time without work; 0 where several verifiers worked at once for longer than that."""
        return max(0.0, 1.0 - self.share)


def timeline_plots(spans: Sequence[Span]) -> Iterator[Plot]:
    """Yield the plot of when each resource worked, if the run recorded that."""
    if spans:
        yield _plot(joined(spans))


def joined(spans: Sequence[Span]) -> list[Span]:
    """Return the spans on one clock, which begins at 0 and stops while no process of the run was there."""
    found: list[Span] = []
    clock = 0.0
    for _, group in groupby(sorted(spans, key=lambda span: (span.session, span.began)), lambda span: span.session):
        own = list(group)
        start, end = own[0].began, max(span.ended for span in own)
        found += [replace(s, began=clock + s.began - start, ended=clock + s.ended - start) for s in own]
        clock += end - start
    return found


def uses(spans: Sequence[Span]) -> list[Use]:
    """Return how each resource spent its time; the spans are on one clock."""
    wall = max(span.ended for span in spans)
    return [
        Use(resource, sum(span.busy for span in own), sum(span.blocked for span in own), wall)
        for resource in RESOURCES
        if (own := [span for span in spans if span.resource == resource])
    ]


def bars(spans: Sequence[Span]) -> list[Span]:
    """Join neighbouring spans of one resource and stage if the gap between them is too small to be seen."""
    gap = NEAR * max(span.ended for span in spans)
    drawn: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.resource, span.began)):
        last = drawn[-1] if drawn else None
        is_same = last is not None and (last.resource, last.stage, last.round) == (
            span.resource,
            span.stage,
            span.round,
        )
        if last is not None and is_same and span.began - last.ended <= gap:
            drawn[-1] = replace(last, ended=max(last.ended, span.ended), busy=last.busy + span.busy)
        else:
            drawn.append(span)
    return drawn


def _kind(span: Span) -> tuple[str, str, int]:
    return span.resource, span.stage, span.round


def _plot(spans: Sequence[Span]) -> Plot:
    found = uses(spans)
    names = {use.resource: f"{use.resource}, idle {use.idle:.0%}" for use in found}
    drawn = figure(height=110 + 44 * len(found), barmode="overlay", bargap=0.3)
    for stage in dict.fromkeys(span.stage for span in spans):
        own = [span for span in bars(spans) if span.stage == stage]
        said = f"{stage}, round %{{customdata[0]}}: busy %{{customdata[1]:,.1f}} of %{{x:,.1f}} s"
        drawn.add_bar(
            orientation="h",
            name=stage,
            y=[names[span.resource] for span in own],
            base=[span.began for span in own],
            x=[max(span.ended - span.began, LEAST) for span in own],
            marker={"color": COLOURS.get(stage, GREY)},
            customdata=[[span.round, span.busy] for span in own],
            hovertemplate=f"{said}<extra></extra>",
        )
    drawn.update_xaxes(title={"text": "seconds at work"})
    drawn.update_yaxes(categoryorder="array", categoryarray=list(reversed(names.values())), automargin=True)
    rows = [
        [use.resource, f"{use.busy:,.1f}", f"{use.blocked:,.1f}", f"{use.wall:,.1f}", f"{use.idle:.1%}"]
        for use in found
    ]
    columns = ("resource", "busy, s", "waiting for verification, s", "all, s", "idle")
    return Plot("timeline", "when each resource was at work", drawn, columns, rows, width=480)
