"""The gate: what is kept, rolled back and stopped, on figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import star_rft
from star_rft import config as configs
from star_rft.build import open_run
from star_rft.evaluation.evaluate import EVAL, read
from star_rft.evaluation.gate import (
    CHANGED,
    Decision,
    Gate,
    Outcome,
    RoundEvidence,
    Signs,
    compare,
    crossing,
    decide,
    evaluated,
)
from star_rft.files import write_table
from star_rft.runs.reports import write_report
from tests.small_runs import MINIATURE

N = 8


def evaluation(
    round_index: int,
    correct: Sequence[int],
    *,
    n: int = N,
    unknown: Sequence[int] | int = 0,
    truncated: int = 0,
    rolled_back: bool = False,
    signs: Signs | None = None,
) -> RoundEvidence:
    unknowns = [unknown] * len(correct) if isinstance(unknown, int) else unknown
    outcomes = {f"p{i:03}": Outcome(n, c, u, truncated) for i, (c, u) in enumerate(zip(correct, unknowns, strict=True))}
    return RoundEvidence(round_index, outcomes, rolled_back, signs or Signs())


def last(gate: Gate, *history: RoundEvidence) -> Decision:
    return decide(gate, history[-1].round, history)


def decisions_of(gate: Gate, *rounds: Sequence[int]) -> list[Decision]:
    """Decide round after round, each decision's roll-back being known to the next, until one stops."""
    history: list[RoundEvidence] = []
    decisions: list[Decision] = []
    for round_index, correct in enumerate(rounds):
        decisions.append(decide(gate, round_index, [*history, evaluation(round_index, correct)]))
        history.append(evaluation(round_index, correct, rolled_back=decisions[-1].rolled_back))
        if decisions[-1].action == "stop":
            break
    return decisions


def eval_table(correct: Sequence[int]) -> pa.Table:
    """Return the rows of eval.parquet of a round with N samples a problem."""
    rows = [
        {
            "split": "dev",
            "problem_id": f"p{i:03}",
            "n": N,
            "correct": right,
            "unknown": 0,
            "truncated": 0,
            "tokens": N,
            "answers": ["1"] * N,
            "is_correct": [at < right for at in range(N)],
        }
        for i, right in enumerate(correct)
    ]
    return pa.Table.from_pylist(rows, schema=EVAL)


def test_without_an_evaluation_a_round_is_kept_and_says_why() -> None:
    decision = decide(Gate(), 3, [])
    assert (decision.action, decision.model_round) == ("keep", 3)
    assert "data.dev" in decision.rule


def test_a_round_that_was_not_evaluated_is_kept() -> None:
    decision = decide(Gate(patience=1), 3, [evaluation(0, [4] * 20), evaluation(2, [0] * 20, rolled_back=True)])
    assert (decision.action, decision.model_round) == ("keep", 3)
    assert "not evaluated" in decision.rule


def test_the_first_evaluated_round_is_kept() -> None:
    assert last(Gate(patience=1), evaluation(0, [0] * 20)).action == "keep"


def test_a_clear_gain_is_kept() -> None:
    decision = last(Gate(patience=1), evaluation(0, [2] * 20), evaluation(1, [4] * 20))
    assert (decision.action, decision.model_round, decision.warnings) == ("keep", 1, [])
    assert decision.evidence["pass_at_1"]["is_gain"]


def test_a_rise_whose_interval_holds_zero_is_no_gain() -> None:
    decision = last(Gate(patience=1), evaluation(0, [4] * 20), evaluation(1, [5] * 6 + [3] * 4 + [4] * 10))
    change = decision.evidence["pass_at_1"]
    assert change["low"] < 0 < change["value"]
    assert not change["is_gain"]
    assert decision.action == "stop"


def test_a_clear_fall_of_pass_at_1_goes_back_to_the_best_round() -> None:
    decision = last(Gate(), evaluation(0, [2] * 20), evaluation(1, [4] * 20), evaluation(2, [1] * 20))
    assert (decision.action, decision.model_round, decision.rolled_back) == ("roll_back", 1, True)
    assert decision.rule.startswith("pass@1 fell: pass@1 -0.375 [-0.375, -0.375] against round 1 on 20 problems")


def test_a_fall_that_is_within_its_interval_is_kept() -> None:
    decision = last(Gate(), evaluation(0, [4] * 20), evaluation(1, [0, 8, 0, 8, 4, 4, 4, 4, 3, 4, *[4] * 10]))
    assert decision.action in ("keep", "warn")
    assert not decision.rolled_back


def test_a_collapse_is_rolled_back_though_pass_at_1_rose_and_says_where_the_curves_cross() -> None:
    before, after = [1] * 40, [8] * 8 + [0] * 32  # pass@1 0.125 -> 0.2, pass@8 1.0 -> 0.2
    decision = last(Gate(), evaluation(0, before), evaluation(1, after))
    assert (decision.action, decision.model_round) == ("roll_back", 0)
    assert decision.rule.startswith("collapse: pass@8 -0.800")
    assert "while pass@1 +0.075" in decision.rule
    assert decision.evidence["crossing"] == 2
    curve = [compare(evaluation(1, after), evaluation(0, before), k).interval.value for k in (1, 2)]
    assert curve[0] > 0 > curve[1]


def test_a_collapse_may_be_let_pass_and_warns() -> None:
    gate = Gate(collapse_rolls_back=False)
    decision = last(gate, evaluation(0, [1] * 40), evaluation(1, [8] * 8 + [0] * 32))
    assert (decision.action, decision.model_round) == ("warn", 1)
    assert "collapse" in decision.warnings[0]
    assert last(gate, evaluation(0, [4] * 20), evaluation(1, [1] * 20)).action == "roll_back"


def test_a_fall_within_the_tolerance_is_no_loss() -> None:
    before, after = evaluation(0, [4] * 40), evaluation(1, [4] * 20 + [3] * 20)  # -0.0625
    assert last(Gate(), before, after).action == "roll_back"
    tolerant = last(Gate(tolerance=0.1), before, after)
    assert (tolerant.action, tolerant.rolled_back) == ("warn", False)
    assert "tolerated" in tolerant.warnings[0]
    assert tolerant.evidence["pass_at_1"]["high"] < 0


def test_without_roll_backs_a_fall_only_warns() -> None:
    decision = last(Gate(rolls_back=False), evaluation(0, [4] * 20), evaluation(1, [1] * 20))
    assert (decision.action, decision.model_round, decision.rolled_back) == ("warn", 1, False)
    assert "kept, as the settings say" in decision.warnings[0]


def test_a_slow_collapse_adds_up_though_pass_at_1_gains_each_time() -> None:
    # Each round loses a few hard problems, too few to tell, and gets surer of the rest.
    rounds = [[2] * 20 + [1] * 20, [4] * 20 + [1] * 15 + [0] * 5, [6] * 20 + [1] * 11 + [0] * 9]
    first, second, third = decisions_of(Gate(), *rounds)
    assert first.action == "keep"
    assert not second.rolled_back
    assert second.evidence["pass_at_1"]["is_gain"]
    assert (third.action, third.model_round) == ("roll_back", 1)
    assert third.rule.startswith("collapse")


def test_patience_ends_a_run_that_stands_still_and_names_the_best_round() -> None:
    better = [*[5] * 2, *[4] * 18]
    decisions = decisions_of(Gate(patience=2), [4] * 20, better, [4] * 20, [4] * 20)
    assert [d.action for d in decisions] == ["keep", "keep", "stop"]
    assert decisions[-1].model_round == 1  # the highest pass@1, though not significantly
    assert "2 evaluated rounds in a row" in decisions[-1].rule


def test_a_gain_starts_patience_anew() -> None:
    decisions = decisions_of(Gate(patience=2), [2] * 20, [2] * 20, [4] * 20, [4] * 20, [4] * 20)
    assert [d.action for d in decisions] == ["keep", "keep", "keep", "keep", "stop"]
    assert decisions[-1].model_round == 2  # of equals the earliest


def test_without_patience_a_run_goes_on() -> None:
    assert {d.action for d in decisions_of(Gate(patience=None), *[[4] * 20] * 6)} == {"keep"}


def test_a_run_that_only_collapses_ends() -> None:
    decisions = decisions_of(Gate(patience=2), [4] * 20, [1] * 20, [1] * 20, [1] * 20)
    assert [d.action for d in decisions] == ["keep", "roll_back", "stop"]
    assert (decisions[-1].model_round, decisions[-1].rolled_back) == (0, True)
    assert "pass@1 fell" in decisions[-1].rule


def test_small_losses_add_up_to_one_that_shows() -> None:
    down = [[8] * 30 + [0] * 3 * r + [8] * (30 - 3 * r) for r in range(4)]
    decisions = decisions_of(Gate(patience=None), *down)
    assert [d.rolled_back for d in decisions] == [False, False, True, True]


def test_few_changed_problems_are_no_evidence() -> None:
    few, enough = CHANGED - 1, CHANGED
    before = [8] * 20
    kept = last(Gate(), evaluation(0, before), evaluation(1, [0] * few + [8] * (20 - few)))
    assert kept.action == "warn"
    assert f"fewer than {CHANGED} problems" in kept.warnings[0]
    assert last(Gate(), evaluation(0, before), evaluation(1, [0] * enough + [8] * (20 - enough))).action == "roll_back"


def test_a_verifier_that_breaks_is_no_loss() -> None:
    decision = last(Gate(), evaluation(0, [4] * 20), evaluation(1, [1] * 20, unknown=4))
    assert (decision.action, decision.rolled_back) == ("warn", False)
    assert any("unknown verdicts" in line for line in decision.warnings)
    assert any(line.startswith("unknown samples are up: 0.500") for line in decision.warnings)


def test_a_verifier_that_is_mended_is_no_gain() -> None:
    decision = last(Gate(), evaluation(0, [1] * 20, unknown=4), evaluation(1, [4] * 20))
    assert not decision.evidence["pass_at_1"]["is_gain"]


def test_bad_references_of_both_rounds_cancel_out() -> None:
    bad = [8] * 5 + [0] * 20
    decision = last(
        Gate(), evaluation(0, [0] * 5 + [2] * 20, unknown=bad), evaluation(1, [0] * 5 + [4] * 20, unknown=bad)
    )
    assert decision.evidence["pass_at_1"]["is_gain"]


def test_truncation_saturation_and_kl_warn() -> None:
    base = evaluation(0, [4] * 20)
    signs = Signs(saturated=0.95, kl=0.8)
    decision = last(Gate(), base, evaluation(1, [4] * 20, truncated=2, signs=signs))
    assert decision.action == "warn"
    assert [line.split(":")[0] for line in decision.warnings] == ["truncated samples are up", "saturation", "KL"]
    silent = Gate(saturation=None, kl=None)
    assert len(last(silent, base, evaluation(1, [4] * 20, truncated=2, signs=signs)).warnings) == 1


def test_diversity_is_compared_with_the_first_round_that_measured_it() -> None:
    rounds = [
        evaluation(0, [4] * 20),
        evaluation(1, [4] * 20, signs=Signs(diversity={"distinct_ngrams": 0.8})),
        evaluation(2, [5] * 20, signs=Signs(diversity={"distinct_ngrams": 0.5})),
        evaluation(3, [6] * 20, signs=Signs(diversity={"distinct_ngrams": 0.3})),
    ]
    assert last(Gate(), *rounds[:3]).warnings == []
    assert last(Gate(), *rounds).warnings == ["diversity: distinct_ngrams is 0.300, below 50% of the 0.800 of round 1"]


def test_rounds_of_different_sample_counts_are_compared_at_the_smaller() -> None:
    decision = last(Gate(k=16), evaluation(0, [4] * 20, n=8), evaluation(1, [8] * 20, n=16))
    assert decision.evidence["pass_at_k"]["k"] == 8
    assert decision.evidence["pass_at_1"]["value"] == 0


def test_rounds_without_a_common_problem_are_an_error() -> None:
    other = RoundEvidence(1, {"q": Outcome(8, 4)})
    with pytest.raises(ValueError, match="rounds 0 and 1"):
        last(Gate(), evaluation(0, [4] * 20), other)


def test_a_decision_survives_json() -> None:
    decision = last(
        Gate(), evaluation(0, [1] * 40), evaluation(1, [8] * 8 + [0] * 32, truncated=1, signs=Signs(kl=3.0))
    )
    assert Decision(**json.loads(json.dumps(asdict(decision), allow_nan=False))) == decision


def test_rows_of_an_evaluation_make_a_record() -> None:
    row = {"problem_id": "a", "n": 8, "correct": 3, "unknown": 1, "truncated": 2, "answers": [], "split": "dev"}
    assert evaluated(4, [row]) == RoundEvidence(4, {"a": Outcome(8, 3, 1, 2)})


@pytest.mark.full
def test_a_training_that_wrecks_the_model_is_rolled_back(tmp_path: Path) -> None:
    """A real round of the tiny model at a learning rate that no weight survives."""
    data = {
        "train": {"source": "word_problems", "options": {"n": 12, "seed": 1, "steps": [1, 2]}},
        "dev": {"source": "word_problems", "options": {"n": 20, "seed": 2, "steps": [1, 2]}},
    }
    run = tmp_path / "run"
    wreck = {"rounds": 1, "run_dir": str(run), "data": data, "train": {"lr": 10.0, "batch_size": 8, "max_steps": 4}}
    list(star_rft.run(MINIATURE | wreck))
    history = [evaluated(r, read(run / "rounds" / f"{r:03}" / "eval.parquet", "dev")) for r in (0, 1)]
    decision = last(Gate(), *history)
    assert (decision.action, decision.model_round) == ("roll_back", 0)
    assert decision.rule.startswith("pass@1 fell")
    assert last(Gate(patience=1), *history).action == "stop"


counts = st.lists(st.integers(0, N), min_size=1, max_size=40)
histories = st.integers(1, 30).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, N), min_size=size, max_size=size), min_size=2, max_size=6)
)
gates = st.builds(Gate, patience=st.one_of(st.none(), st.integers(1, 3)), k=st.one_of(st.none(), st.integers(1, N)))


@settings(max_examples=20)
@given(histories, gates)
def test_a_round_that_is_better_on_every_problem_is_never_rolled_back(rounds: list[list[int]], gate: Gate) -> None:
    *earlier, _ = rounds
    better = [max(of_one) for of_one in zip(*earlier, strict=True)]
    history = [evaluation(r, correct) for r, correct in enumerate([*earlier, better])]
    assert not last(gate, *history).rolled_back


@settings(max_examples=20)
@given(counts, gates)
def test_equal_results_are_neither_gain_nor_loss(correct: list[int], gate: Gate) -> None:
    decision = last(gate, evaluation(0, correct), evaluation(1, correct))
    for figure in ("pass_at_1", "pass_at_k"):
        assert not decision.evidence[figure]["is_gain"]
        assert not decision.evidence[figure]["is_loss"]
    assert decision.evidence["crossing"] is None
    assert decision.model_round == (0 if decision.action == "stop" else 1)


def test_a_decision_knows_which_rounds_were_rolled_back_from_their_records(tmp_path: Path) -> None:
    """Round 1 solved more problems, but fewer of them at all: it has the highest pass@1, and is not gone back to."""
    rounds = {0: [4] * 20, 1: [8] * 14 + [0] * 6, 2: [4] * 20}
    changes: dict[str, object] = {
        "run_dir": str(tmp_path / "run"),
        "gate.patience": 2,
        "eval.n": N,
        "eval.kl_traces": 0,
    }
    with open_run(configs.load(MINIATURE, changes)) as stages:
        for round_index, correct in rounds.items():
            write_table(stages.context.folder.eval(round_index), eval_table(correct))
            if round_index < 2:
                report = stages.evaluation.metrics.report(round_index, stages.training.base.path)
                write_report(stages.context.folder.metrics(round_index), report)
        first, last = report.gate, stages.evaluation.metrics.report(2, stages.training.base.path).gate
    assert first is not None
    assert last is not None
    assert (first["action"], first["rolled_back"], first["model_round"]) == ("roll_back", True, 0)
    assert (last["action"], last["rolled_back"], last["model_round"]) == ("stop", False, 0)


@settings(max_examples=20)
@given(histories, gates)
def test_decisions_are_deterministic_and_a_roll_back_goes_to_a_kept_round(rounds: list[list[int]], gate: Gate) -> None:
    decisions = decisions_of(gate, *rounds)
    assert decisions == decisions_of(gate, *rounds)
    for round_index, decision in enumerate(decisions):
        assert not decisions[decision.model_round].rolled_back
        assert decision.model_round <= round_index
        assert (decision.model_round == round_index) or decision.action in ("stop", "roll_back")
        assert decision.action != "keep" or not decision.warnings


@settings(max_examples=20)
@given(histories)
def test_the_order_of_problems_does_not_matter(rounds: list[list[int]]) -> None:
    history = [evaluation(r, correct) for r, correct in enumerate(rounds)]
    turned = [RoundEvidence(h.round, dict(reversed(list(h.outcomes.items())))) for h in history]
    assert last(Gate(), *history) == last(Gate(), *turned)


@settings(max_examples=30)
@given(counts, st.data())
def test_the_crossing_is_where_the_curve_first_lies_below(before: list[int], data: st.DataObject) -> None:
    after = data.draw(st.lists(st.integers(0, N), min_size=len(before), max_size=len(before)))
    now, then = evaluation(1, after), evaluation(0, before)
    values = [compare(now, then, k).interval.value for k in range(1, N + 1)]
    expected = next((k for k, value in enumerate(values, 1) if value < -1e-12), None)
    assert crossing(now, then, N) == expected


@pytest.mark.full
@pytest.mark.parametrize("truth", [0.2, 0.5])
def test_equal_models_are_seldom_rolled_back(truth: float) -> None:
    """At pass@1 alone a one-sided 2.5% of rounds is what the interval promises."""
    rng = np.random.default_rng(0)
    rates = rng.beta(1, 1 / truth - 1, 100)
    fell = [
        compare(
            evaluation(1, rng.binomial(N, rates).tolist()), evaluation(0, rng.binomial(N, rates).tolist()), 1
        ).is_loss
        for _ in range(200)
    ]
    assert np.mean(fell) < 0.07
