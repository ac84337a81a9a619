"""The counts of metrics.json, from a ledger."""

from __future__ import annotations

from pathlib import Path

from star_rft.runs.reports import selection_figures, train_figures
from tests.small_ledgers import finish_round, ledger_of, sample, verdict


def test_coverage_counts_what_was_solved_and_the_share_trained_on_what_was_selected(tmp_path: Path) -> None:
    """Of 8 train problems 4 are sampled: 3 are solved, of which one by a cut-off sample, which is not trained on."""
    ledger = ledger_of(
        tmp_path,
        [
            (sample("a", 0), verdict("correct")),
            (sample("b", 0), verdict("correct")),
            (sample("c", 0, finish="length"), verdict("correct")),
            (sample("d", 0), verdict("incorrect")),
        ],
    )
    finish_round(ledger, 1)
    con = ledger.connect()
    figures = train_figures(con, round_index=1, problems=8, group_by=None)
    assert (figures["problems_sampled"], figures["unsolved"], figures["coverage"]) == (4, 1, 3 / 8)
    assert selection_figures(con, round_index=1, problems=8)["trained_on_share"] == 2 / 8
