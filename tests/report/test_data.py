from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_rft.ledger import Ledger
from star_rft.report.data import Facts, funnel, gather, open_ledger
from star_rft.report.plots.training import variety
from star_rft.types import RoundReport
from tests.small_ledgers import commit, sample, verdict


@pytest.fixture
def facts(finished: Path) -> Iterator[Facts]:
    with open_ledger(finished, memory="1GB") as con:
        yield gather(finished, con)


def test_a_funnel_loses_exactly_what_was_dropped() -> None:
    dropped = {"duplicate": 30, "incorrect": 50, "over_cap": 5, "too_short": 2, "unknown": 3}
    steps = funnel(RoundReport(round=1, model="m", problems=4, selected=10, dropped=dropped))
    assert [step.why for step in steps] == ["", "unknown", "incorrect", "too_short", "duplicate", "over_cap"]
    assert [step.traces for step in steps] == [100, 97, 47, 45, 15, 10]
    assert steps[-1].traces == 10


def test_a_funnel_leaves_label_errors_out_before_it_counts_verdicts() -> None:
    """Selection leaves them out first, whatever the verdicts on their samples are."""
    dropped = {"duplicate": 1, "incorrect": 4, "quarantined": 3, "unknown": 2}
    steps = funnel(RoundReport(round=1, model="m", problems=4, selected=10, dropped=dropped))
    assert [(step.why, step.traces) for step in steps] == [
        ("", 20),
        ("quarantined", 17),
        ("unknown", 15),
        ("incorrect", 11),
        ("duplicate", 10),
    ]


def test_the_funnels_of_a_run_end_at_what_is_selected(facts: Facts) -> None:
    assert set(facts.funnels) == {1, 2}
    for report in facts.trained:
        assert facts.funnels[report.round][-1].traces == report.selected


def test_the_flows_hold_every_problem_once(facts: Facts) -> None:
    assert {(flow.round, flow.later_round) for flow in facts.flows} == {(1, 2)}
    assert sum(flow.problems for flow in facts.flows) == facts.reports[0].problems
    into: dict[str, int] = {}
    for flow in facts.flows:
        into[flow.now] = into.get(flow.now, 0) + flow.problems
    assert into == facts.reports[2].classes


def test_tokens_are_those_of_the_reports(facts: Facts) -> None:
    for report in facts.trained:
        assert facts.tokens[report.round, "training"] == report.tokens
        assert report.held_out is not None
        assert facts.tokens[report.round, "held-out"] == report.held_out.tokens


def test_what_is_unknown_comes_first(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    ledger = Ledger(run, is_writer=True)
    ((problem,),) = ledger.connect().sql("select min(problem_id) from problems where split = 'train'").fetchall()
    commit(ledger, "odd", [(sample(problem, 99, round_index=2), verdict("unknown", None))])
    with open_ledger(run, memory="1GB") as con:
        found = gather(run, con)
    assert (found.reasons[0].status, found.reasons[0].reason, found.reasons[0].samples) == ("unknown", "fault", 1)
    assert found.unknown == 1


def test_lengths_are_those_of_samples_without_a_hint(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with open_ledger(run, memory="1GB") as con:
        before = gather(run, con).lengths
    ledger = Ledger(run, is_writer=True)
    commit(ledger, "hinted", [(sample("any", 99, round_index=2, tokens=10_000, hinted=True), verdict())])
    with open_ledger(run, memory="1GB") as con:
        assert gather(run, con).lengths == before


def test_controls_are_told_where_they_are_there(facts: Facts) -> None:
    assert facts.controls is None


def test_the_figures_of_variety_are_those_of_the_reports(facts: Facts) -> None:
    plots = {plot.name: plot for plot in variety(facts)}
    assert set(plots) == {"distinct_solutions", "kl", "lengths"}
    (ways,) = plots["distinct_solutions"].figure.data
    assert list(ways.y) == [report.diversity["distinct_solutions"] for report in facts.trained]
    own = next(line for line in plots["kl"].figure.data if line.name == "own samples")
    assert list(own.y) == [report.kl["own"] for report in facts.reports]
