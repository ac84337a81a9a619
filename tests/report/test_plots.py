from __future__ import annotations

from pathlib import Path

import pytest

from star_rft.report.plots.cost import bars, joined, timeline_plots, uses
from star_rft.runs.timing import Resource, Span, Timeline, noted, read_spans


def span(
    resource: Resource,
    began: float,
    ended: float,
    *,
    stage: str = "sampling",
    blocked: float = 0.0,
    session: float = 1.0,
) -> Span:
    return Span(resource, stage, 1, began, ended, ended - began - blocked, blocked, session)


def test_what_was_noted_is_read_back_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    timeline = Timeline(path, session=5.0)
    with noted(timeline.note, "model", "train", 2):
        pass
    with path.open("a") as out:
        out.write('{"resource": "mod')
    Timeline(path, session=9.0).note(span("writer", 1.0, 2.0))
    Timeline(path, session=9.0).note(span("writer", 3.0, 4.0))
    assert [(s.resource, s.session) for s in read_spans(path)] == [("writer", 9.0), ("model", 5.0)]


def test_the_clock_stands_still_while_nobody_ran() -> None:
    found = joined([span("model", 100, 110), span("model", 5000, 5010, session=2.0)])
    assert [(s.began, s.ended) for s in found] == [(0, 10), (10, 20)]


def test_idle_is_what_a_resource_was_not_busy_and_blocked_is_not_busy() -> None:
    spans = [span("model", 0, 60, blocked=20), span("verifier", 0, 100), span("writer", 90, 100)]
    model, verifier, writer = uses(spans)
    assert (model.busy, model.blocked, model.idle) == (40, 20, pytest.approx(0.6))
    assert verifier.idle == 0
    assert writer.idle == pytest.approx(0.9)


def test_a_million_units_are_a_few_bars_and_no_second_is_lost() -> None:
    units = [span("model", at, at + 0.9) for at in range(2000)] + [span("model", 2500, 2600, stage="train")]
    drawn = bars(units)
    assert len(drawn) == 2
    assert sum(s.busy for s in drawn) == pytest.approx(sum(s.busy for s in units))


def test_the_figure_says_the_shares_and_a_run_without_a_timeline_has_none() -> None:
    assert list(timeline_plots([])) == []
    (plot,) = timeline_plots([span("model", 0, 75), span("model", 90, 100, stage="train")])
    assert list(plot.rows) == [["model", "85.0", "0.0", "100.0", "15.0%"]]
    assert {bar.name for bar in plot.figure.data} == {"sampling", "train"}
