from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from star_rft.evaluation import evaluate
from star_rft.runs.reports import read_report, write_report
from star_rft.types import RoundReport
from tests.small_ledgers import ledger_of, sample, verdict


def held_out_ledger(folder: Path) -> Path:
    """Two dev problems of four samples each, one greedy sample each; a train sample that must not count."""
    pairs = [(sample("a", i, split="dev"), verdict("correct" if i < 1 else "incorrect", str(i))) for i in range(4)]
    pairs += [(sample("b", i, split="dev"), verdict("unknown", None)) for i in range(2)]
    pairs += [(sample("b", i, split="dev"), verdict("incorrect", "7")) for i in range(2, 4)]
    pairs += [(sample(p, 0, split="dev", decode_id="g"), verdict()) for p in "ab"]
    pairs += [(sample("c", 0), verdict())]
    ledger = ledger_of(folder, pairs)
    path = folder / "eval.parquet"
    table = evaluate.per_problem(ledger.connect(), round_index=1, sampled_id="d", greedy_id="g", group_by=None)
    pq.write_table(table, path)
    return path


def test_scores_are_unbiased_count_unknown_as_not_correct_and_show_the_upper_bound(tmp_path: Path) -> None:
    scored = evaluate.held_out_scores(evaluate.read(held_out_ledger(tmp_path), "dev"), split="dev", ks=[1, 4])
    assert scored.pass_at_k == {"1": pytest.approx(1 / 8), "4": pytest.approx(0.5)}
    assert scored.pass_at_1_upper == pytest.approx(3 / 8)
    assert (scored.problems, scored.n, scored.unknown) == (2, 4, 2)
    assert scored.greedy is not None
    assert scored.greedy.value == 1.0


def test_changes_are_paired_by_problem_not_by_position(tmp_path: Path) -> None:
    rows = evaluate.read(held_out_ledger(tmp_path), "dev")
    scored = evaluate.held_out_scores(rows, split="dev", ks=[1], base=list(reversed(rows)), last=rows)
    assert scored.vs_base is not None
    assert (scored.vs_base.value, scored.vs_base.low, scored.vs_base.high) == (0.0, 0.0, 0.0)


def test_groups_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = evaluate.read(held_out_ledger(tmp_path), "dev")
    rows = [row | {"group": group} for row, group in zip(rows, ["10", "9"], strict=True)]
    assert list(evaluate.held_out_scores(rows, split="dev", ks=[1]).by_group) == ["9", "10"]


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    scored = evaluate.held_out_scores(evaluate.read(held_out_ledger(tmp_path), "dev"), split="dev", ks=[1, 4])
    report = RoundReport(
        round=3, model="m", problems=2, unsolved=1, unsolved_share_interval=scored.greedy, held_out=scored
    )
    write_report(tmp_path / "metrics.json", report)
    assert read_report(tmp_path / "metrics.json") == report
