"""A report as flat values: names, bounds of intervals, and counts that fall to 0."""

from __future__ import annotations

from pathlib import Path

from star_rft.runs.reports import read_report
from star_rft.stages.flat_metrics import metrics_of


def test_a_round_is_flat_numbers_with_bounds_and_the_decision_as_text(finished: Path) -> None:
    report = read_report(finished / "rounds/002/metrics.json")
    found = metrics_of(report)
    assert report.held_out is not None
    assert found["held_out/pass_at_4"] == report.pass_at_k["4"]
    assert found["held_out/pass_at_1_low"] == report.held_out.pass_at_1_interval.low
    assert found["held_out/vs_last_high"] == report.held_out.vs_last.high  # type: ignore[union-attr]
    assert found["held_out/by_group/1"] == report.held_out.by_group["1"]
    assert found["round/correct"] == report.correct
    assert found["seconds/train"] == report.seconds["train"]
    assert found["gate/action"] == report.gate["action"]  # type: ignore[index]
    assert {type(value) for name, value in found.items() if not name.startswith("gate/")} <= {int, float}
    assert not any("None" in name or "@" in name for name in found)


def test_a_class_that_nobody_is_in_any_more_is_0_and_round_0_has_no_figures_of_training(finished: Path) -> None:
    report = read_report(finished / "rounds/002/metrics.json")
    assert "no_survivors" not in report.classes
    assert metrics_of(report)["classes/no_survivors"] == 0
    before = read_report(finished / "rounds/000/metrics.json")
    start = metrics_of(before)
    assert not any(name.startswith(("round/", "classes/")) for name in start)
    assert before.pass_at_1 is not None
    assert start["held_out/pass_at_1"] == before.pass_at_1
