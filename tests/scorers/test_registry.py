"""Scores beside verdicts: how they are counted, kept and used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import star_rft
from star_rft import config as configs
from star_rft.build import check_names
from star_rft.errors import UserError
from star_rft.ledger import Ledger
from star_rft.scorers.registry import ScorerContext, ScorerSettings, check_scorer, open_scorer, scored
from star_rft.types import Problem, Scorer, Trace
from tests.small_ledgers import ledger_of, sample, selection, verdict
from tests.small_runs import MINIATURE
from verifiers.types import Status


class Lengths:
    """Scores a trace by its length, and notes which problems came together."""

    version = "1"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        self.calls.append([trace.problem.id for trace in traces])
        for trace in traces:
            yield None if trace.sample.text == "mute" else float(len(trace.sample.text))

    def close(self) -> None:
        pass


def scored_ledger(folder: Path, *, threshold: float | None = None) -> tuple[Ledger, Lengths]:
    judged: list[tuple[str, Status]] = [("xx", "correct"), ("xxxx", "incorrect"), ("mute", "correct")]
    pairs = [(sample("a", i, text), verdict(status)) for i, (text, status) in enumerate(judged)]
    pairs += [(sample("b", 0, "x"), verdict())]
    ledger, scorer = ledger_of(folder, pairs), Lengths()
    scoring = ScorerSettings("lengths", lambda policy: scorer, threshold=threshold, decides=True)
    problems = {name: Problem(name, "?", "2", "math") for name in "ab"}
    rows = scored(
        ledger.connect(),
        scorer,
        scoring,
        round_index=1,
        split="train",
        problems=problems,
        advance=lambda done, tokens: None,
    )
    ledger.score("score-train-001", "lengths", scorer.version, list(rows))
    return ledger, scorer


def kept(ledger: Ledger, *rules: Any, decides: bool) -> set[tuple[str, str]]:
    chosen = selection(ledger, *rules, scorer_decides=decides)
    texts = dict(ledger.connect().execute("select sample_id, text from samples").fetchall())
    rows = chosen.traces.to_arrow_table().to_pylist()
    return {(row["problem_id"], texts[row["sample_id"]]) for row in rows if row["is_selected"]}


def test_a_scorer_that_decides_stands_in_for_the_verdict(tmp_path: Path) -> None:
    ledger, scorer = scored_ledger(tmp_path, threshold=2.0)
    assert scorer.calls == [["a", "a", "a", "b"]]
    assert kept(ledger, "correct", decides=True) == {("a", "xx"), ("a", "xxxx")}
    assert kept(ledger, "correct", decides=False) == {("a", "xx"), ("a", "mute"), ("b", "x")}


def test_rules_that_rank_take_the_scorers_score(tmp_path: Path) -> None:
    ledger, _ = scored_ledger(tmp_path)
    assert kept(ledger, "finished", {"cap": {"limit": 1, "prefer": "best"}}, decides=True) == {
        ("a", "xxxx"),
        ("b", "x"),
    }


def test_what_has_no_score_is_unknown(tmp_path: Path) -> None:
    ledger, _ = scored_ledger(tmp_path)
    rows = ledger.connect().execute("select status, score from scores order by score nulls first").fetchall()
    assert rows == [("unknown", None), ("correct", 1.0), ("correct", 2.0), ("correct", 4.0)]


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ({"name": "reward_model"}, "needs a model"),
        ({"name": "majority", "threshold": 0.5}, "threshold is for decides"),
        ({"name": "majority", "options": {"share": 1}}, "scorer 'majority' has no option 'share'; valid options: none"),
        ({"name": "majorty"}, r"unknown scorer 'majorty' \(did you mean 'majority'\?\); valid: judge, likelihood, maj"),
        ({"name": "nothing:here"}, "no module named 'nothing' can be imported"),
    ],
)
def test_a_scorer_that_cannot_be_meant_is_refused(scorer: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_names(configs.load(MINIATURE | {"scorer": scorer}))


@pytest.mark.full
def test_a_run_without_labels_trains_on_what_its_samples_agree_on(tmp_path: Path) -> None:
    changes = {
        "rounds": 1,
        "run_dir": str(tmp_path / "run"),
        "scorer": {"name": "majority", "decides": True, "threshold": 0.5},
        "select": {"rules": ["correct", {"cap": 1}]},
        "train": {"max_steps": 1, "batch_size": 4},
    }
    report = list(star_rft.run(MINIATURE | changes))[-1]
    rows = (
        Ledger(tmp_path / "run")
        .connect()
        .execute("select score, is_selected from selection join scores using (sample_id) where is_selected")
        .fetchall()
    )
    assert len(rows) == report.selected > 0
    assert all(score >= 0.5 for score, _ in rows)
    assert "score" in report.seconds


class OwnScorer:
    version = "1"

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        yield from (self.factor * len(trace.sample.text) for trace in traces)

    def close(self) -> None:
        pass


def lengths(context: ScorerContext, *, factor: float = 1.0) -> Scorer:
    return OwnScorer(factor)


def test_a_scorer_of_a_users_own_takes_one_function_and_its_options_are_checked() -> None:
    own = f"{__name__}:lengths"
    check_scorer(own, {"factor": 2.0}, model=None)
    with pytest.raises(UserError, match=r"option 'factor' of scorer .*: 'long' is not valid: input should be a valid"):
        check_scorer(own, {"factor": "long"}, model=None)
    opened = open_scorer(own, model=None, options={"factor": 2.0}, context=None)  # type: ignore[arg-type]
    assert isinstance(opened, OwnScorer)
    assert opened.factor == 2.0
