"""Scores that need no model: agreement, and verdicts."""

from __future__ import annotations

import pytest

from star_rft.scorers.majority import Majority
from star_rft.scorers.verdict import VerifierScorer
from star_rft.statistics import majority_at_k
from star_rft.types import Trace
from tests.scorers.traces import trace
from verifiers import UnknownOption, UnknownVerifier
from verifiers.types import Status


def voted(*answers: tuple[Status, str | None], problem: str = "p") -> list[Trace]:
    return [
        trace("?", f"{i}", problem=problem, sample_index=i, status=status, answer=answer)
        for i, (status, answer) in enumerate(answers)
    ]


def test_a_score_is_the_share_of_the_problems_traces_with_the_same_answer() -> None:
    traces = voted(("incorrect", "3"), ("correct", "4"), ("incorrect", "3"), ("incorrect", None))
    assert list(Majority().score(traces)) == [0.5, 0.25, 0.5, None]


def test_right_answers_agree_however_they_are_written_and_never_with_a_wrong_one() -> None:
    traces = voted(("correct", "1/2"), ("correct", "0.5"), ("incorrect", "0.5"), ("unknown", "7"))
    assert list(Majority().score(traces)) == [0.5, 0.5, 0.25, 0.25]


def test_each_problem_is_counted_for_itself() -> None:
    traces = voted(("incorrect", "3"), ("incorrect", "3")) + voted(("incorrect", "3"), ("correct", "5"), problem="q")
    assert list(Majority().score(traces)) == [1.0, 1.0, 0.5, 0.5]


def test_the_best_score_is_the_majority_of_the_statistics() -> None:
    traces = voted(("incorrect", "3"), ("correct", "4"), ("correct", "4.0"), ("incorrect", None))
    scores = list(Majority().score(traces))
    best = max(score for score in scores if score is not None)
    assert [t.verdict.is_correct for t, s in zip(traces, scores, strict=True) if s == best] == [True, True]
    answers, right = [t.verdict.answer for t in traces], [t.verdict.is_correct for t in traces]
    assert majority_at_k(answers, right, 4) == 1.0


def test_the_verdict_that_a_trace_holds_is_its_score_and_unknown_is_none() -> None:
    traces = voted(("correct", "7"), ("incorrect", "3"), ("unknown", None))
    assert list(VerifierScorer().score(traces)) == [1.0, 0.0, None]


def test_another_verifier_judges_afresh_and_leaves_out_the_word_that_was_cut() -> None:
    texts = ["#### 7", "#### 8", "#### 7"]
    traces = [trace("?", text, status="unknown", answer=None) for text in texts[:2]]
    traces.append(trace("?", texts[2], status="correct", finish="length"))
    scorer = VerifierScorer("math", workers=1)
    assert list(scorer.score(traces)) == [1.0, 0.0, 0.0]
    scorer.close()


def test_a_verifier_or_option_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(UnknownVerifier):
        VerifierScorer("maths")
    with pytest.raises(UnknownOption):
        VerifierScorer("math", options={"tolerances": 1})


def test_the_version_names_the_verifier_and_its_options() -> None:
    scorers = [VerifierScorer(), VerifierScorer("math", workers=1), VerifierScorer("exact", workers=1)]
    assert len({scorer.version for scorer in scorers}) == 3
    for scorer in scorers:
        scorer.close()
