"""The benchmark of label errors counts what the loop found on rows with wrong references."""

from __future__ import annotations

import pytest

import star_rft
from tests.programs import benchmark

SEED, ROWS = 3, 24
FEW = {
    **{"rounds": 1, "gate": None, "sample.n": 4, "sample.max_tokens": 48, "data.train.options": {}},
    **{"data.dev.options.n": 6, "eval.n": 2, "eval.k": [1], "eval.max_tokens": 48, "eval.greedy": False},
    **{"eval.kl_traces": 0, "train.max_steps": 1, "verifier.workers": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> star_rft.Run:
    label_errors = benchmark("label_errors")
    folder = tmp_path_factory.mktemp("label-errors") / "run"
    rows = [
        {name: value for name, value in row.items() if name != "true"} for row in chosen(label_errors.rows_of(SEED))
    ]
    return star_rft.run(label_errors.CONFIG, FEW | {"run_dir": str(folder)}, data={"train": rows}).result()


def chosen(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return a few rows, of which one in three has a wrong reference."""
    wrong = [row for row in rows if row["true"] is not None][: ROWS // 3]
    return wrong + [row for row in rows if row["true"] is None][: ROWS - len(wrong)]


def test_a_wrong_reference_stands_in_the_solution_too_and_differs_from_the_right_one() -> None:
    rows = benchmark("label_errors").rows_of(SEED)
    wrong = [row for row in rows if row["true"] is not None]
    assert (len(rows), len(wrong)) == (500, 25)
    for row in wrong:
        steps, _, answer = row["answer"].rpartition("\n#### ")
        assert answer != row["true"]
        assert f"= {answer}" in steps.splitlines()[-1]


@pytest.mark.full
def test_what_is_counted_is_what_the_run_holds(run: star_rft.Run) -> None:
    label_errors = benchmark("label_errors")
    (counts,) = label_errors.found(run.folder, SEED)
    ((flagged,),) = run.sql("select count(*) from frontier where class = 'label_error'").fetchall()
    assert (counts["label_errors"], counts["flagged"]) == (ROWS // 3, flagged)
    assert counts["right"] <= counts["flagged"]
    (spent,) = label_errors.spent(run.folder, label_errors.rows_of(SEED), 1)
    report = run.reports[1]
    assert spent["tokens"] == report.tokens
    assert 0 < spent["tokens_wrong"] < spent["tokens"]
    assert spent["label_errors"] == counts["label_errors"]
    rates = label_errors.pass_rates(run.folder, 1)
    assert len(rates) == 6
    assert sum(rates) / len(rates) == pytest.approx(report.pass_at_1)
