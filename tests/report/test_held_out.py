from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_rft.evaluation.evaluate import EVAL
from star_rft.report.data import DIFFICULTY, crossing, is_by_difficulty, measured
from star_rft.report.plots.held_out import by_round, curves
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.statistics import bootstrap, bootstrap_columns


def folder_of(tmp_path: Path, by_round: dict[int, list[int]], *, n: int = 8) -> RunFolder:
    """A run folder with evaluations: the correct samples of each problem, round by round."""
    folder = RunFolder(tmp_path)
    for number, correct in by_round.items():
        rows = [
            {
                "split": "dev",
                "problem_id": f"p{at}",
                "group": None,
                "n": n,
                "correct": right,
                "unknown": 0,
                "truncated": 0,
                "tokens": n,
                "answers": ["1"] * right + ["2"] * (n - right),
                "is_correct": [True] * right + [False] * (n - right),
                "greedy_correct": right > n / 2,
            }
            for at, right in enumerate(correct)
        ]
        folder.round(number).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=EVAL), folder.eval(number))
    return folder


def test_the_figures_are_those_of_the_metrics(finished: Path) -> None:
    folder = RunFolder(finished)
    for found in measured(folder, [0, 1, 2], split="dev", ks=[1, 4]):
        scores = read_report(folder.metrics(found.round)).held_out
        assert scores is not None
        assert found.named["pass@1"].value == pytest.approx(scores.pass_at_1_interval.value)
        assert found.named["pass@1"].low == pytest.approx(scores.pass_at_1_interval.low)
        assert found.named["pass@4"].value == pytest.approx(scores.pass_at_k["4"])
        assert found.named["maj@4"].value == pytest.approx(scores.maj_at_k["4"])
        assert found.by_group == pytest.approx(scores.by_group)
        assert set(found.curve) == {1, 2, 3, 4}


def test_a_model_that_is_surer_but_less_varied_crosses_the_one_before(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {0: [2, 2, 2, 2], 1: [8, 8, 0, 0]})
    before, after = measured(folder, [0, 1], split="dev", ks=[1, 8])
    assert after.named["pass@1"].value > before.named["pass@1"].value
    assert after.curve[8].value < before.curve[8].value
    # pass@2 of 2 in 8 is 13/28 = 0.46, pass@3 is 9/14 = 0.64: above the half that the later model keeps at every k.
    assert crossing(after, before) == 3
    assert crossing(before, before) is None


def test_problems_are_sorted_by_how_often_the_first_model_solved_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {0: [0, 1, 4, 7, 8], 1: [8, 8, 8, 8, 0]})
    first, second = measured(folder, [0, 1], split="dev", ks=[1])
    assert list(first.by_group) == [name for _, name in DIFFICULTY]
    assert list(second.by_group.values()) == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert is_by_difficulty([first, second])


def test_a_run_without_such_a_split_has_no_figures(finished: Path) -> None:
    assert measured(RunFolder(finished), [0, 1, 2], split="test", ks=[1]) == []


def test_the_curve_of_many_samples_has_few_points_and_both_ends(tmp_path: Path) -> None:
    (found,) = measured(folder_of(tmp_path, {0: [5, 60]}, n=64), [0], split="dev", ks=[1, 64, 128])
    assert len(found.curve) <= 14
    assert {1, 2, 64} <= set(found.curve)
    assert "pass@128" not in found.named


def test_columns_are_resampled_together_as_each_would_be_alone() -> None:
    values = np.random.default_rng(3).random((50, 3))
    together = bootstrap_columns(values, seed=5)
    for column, found in zip(values.T, together, strict=True):
        alone = bootstrap(column, seed=5)
        assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_columns_of_no_problems_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no problems"):
        bootstrap_columns(np.zeros((0, 2)))


def test_the_chosen_round_stands_out_among_the_curves(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {0: [1, 1], 1: [8, 8], 2: [4, 4]})
    drawn = curves(measured(folder, [0, 1, 2], split="dev", ks=[1]), chosen=1).figure.data
    widths = {line.name: line.line.width for line in drawn if line.name}
    assert widths["round 1 (the one to use)"] > widths["round 2"]


def test_every_measure_has_intervals_and_a_column_of_numbers(finished: Path) -> None:
    plot = by_round(measured(RunFolder(finished), [0, 1, 2], split="dev", ks=[1, 4]))
    assert list(plot.columns) == ["round", "pass@1", "pass@4", "maj@4", "greedy"]
    assert len(plot.rows) == 3
    assert all(line.error_y.array is not None for line in plot.figure.data)
