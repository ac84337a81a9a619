from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from star_rft.frontier.history import beta_interval, counts
from star_rft.ledger import Ledger
from star_rft.ledger.schemas import HISTORY
from star_rft.types import Sample
from tests.small_ledgers import ledger_of, sample, verdict
from verifiers.types import Verdict


def drawn(problem: str, outcomes: str, *, round_index: int = 1, **more: bool) -> list[tuple[Sample, Verdict]]:
    """One sample a letter: c correct, i incorrect, u unknown, t truncated."""
    verdicts = {
        "c": verdict(),
        "i": verdict("incorrect", "3"),
        "u": verdict("unknown", None),
        "t": verdict("incorrect", None, "truncated"),
    }
    return [(sample(problem, i, round_index=round_index, **more), verdicts[o]) for i, o in enumerate(outcomes)]  # type: ignore[arg-type]


def only(table: pa.Table) -> dict[str, object]:
    (row,) = table.to_pylist()
    assert isinstance(row, dict)
    return row


def rounds_of(folder: Path, *outcomes: str) -> Ledger:
    """A ledger of problem `a`; an empty round is one in which it was not asked, but `b` was."""
    return ledger_of(
        folder,
        [
            pair
            for r, o in enumerate(outcomes, start=1)
            for pair in [*drawn("a", o, round_index=r), *drawn("b", "c", round_index=r)]
        ],
    )


@pytest.mark.parametrize(
    ("outcomes", "transition"),
    [
        (["ic"], "newly_solved"),
        (["ii", "ci"], "newly_solved"),
        (["ii", "", "ci"], "newly_solved"),
        (["ci", "ci"], "still_solved"),
        (["ci", "", "ci"], "still_solved"),
        (["ci", "ii"], "lost"),
        (["ci", "", "ii"], "lost"),
        (["ci", "ii", "ci"], "regained"),
        (["ii"], "still_unsolved"),
        (["ci", "ii", "ii"], "still_unsolved"),
        (["cc", ""], "newly_solved"),
    ],
)
def test_a_transition_compares_the_last_two_rounds_in_which_a_problem_was_asked(
    outcomes: list[str], transition: str, tmp_path: Path
) -> None:
    rows = counts(rounds_of(tmp_path, *outcomes).connect()).to_pylist()
    assert rows[0]["transition"] == transition


def test_an_older_round_counts_half(tmp_path: Path) -> None:
    row = only(counts(ledger_of(tmp_path, [*drawn("a", "cccc"), *drawn("a", "iiiic", round_index=2)]).connect()))
    a, b = 0.5 + 4 / 2 + 1, 0.5 + 4
    assert row["pass_mean"] == pytest.approx(a / (a + b))
    assert [row["pass_low"], row["pass_high"]] == pytest.approx(list(beta(a, b).ppf([0.025, 0.975])))


def test_what_was_not_asked_for_long_becomes_uncertain(tmp_path: Path) -> None:
    con = ledger_of(tmp_path, drawn("a", "cccccccc")).connect()
    widths = [row["pass_high"] - row["pass_low"] for r in (1, 2, 3) for row in counts(con, through_round=r).to_pylist()]
    assert widths == sorted(widths)


def test_later_rounds_do_not_change_what_was_so(tmp_path: Path) -> None:
    con = rounds_of(tmp_path, "ci", "ii", "cc").connect()
    alone = rounds_of(tmp_path / "alone", "ci", "ii").connect()
    assert counts(con, through_round=2).equals(counts(alone))


def test_hinted_and_foreign_samples_are_counted_apart_and_tell_no_pass_rate(tmp_path: Path) -> None:
    from dataclasses import replace

    foreign = [(replace(s, sample_index=s.sample_index + 100), v) for s, v in drawn("a", "cci")]
    pairs = [*drawn("a", "ii"), *drawn("a", "ccc", hinted=True), *foreign, *drawn("b", "c", hinted=True)]
    con = ledger_of(tmp_path, pairs).connect()
    rows = {row["problem_id"]: row for row in counts(con, own=range(100)).to_pylist()}
    named = ("samples", "correct", "distinct", "hinted", "hinted_correct", "foreign", "foreign_correct", "tokens")
    assert [rows["a"][name] for name in named] == [2, 0, 0, 3, 3, 3, 2, 8 * 3]
    assert rows["a"]["pass_mean"] == pytest.approx(0.5 / 3)
    assert [rows["b"][name] for name in ("samples", "transition", "pass_mean")] == [0, None, None]


def test_unknown_says_nothing_about_the_pass_rate_and_truncated_says_no(tmp_path: Path) -> None:
    row = only(counts(ledger_of(tmp_path, drawn("a", "uuutt")).connect()))
    assert (row["samples"], row["unknown"], row["truncated"]) == (5, 3, 2)
    assert row["pass_mean"] == pytest.approx(0.5 / 3)
    assert row["pass_rate_at_most"] == pytest.approx(1 - 0.05 ** (1 / 2))


def test_distinct_correct_traces_are_those_with_other_equations(tmp_path: Path) -> None:
    texts = ["1 + 1 = 2", "so 1 + 1 = 2", "2 * 1 = 2", "3 + 1 = 5"]
    pairs = [(sample("a", i, text), verdict("correct" if i < 3 else "incorrect")) for i, text in enumerate(texts)]
    assert only(counts(ledger_of(tmp_path, pairs).connect()))["distinct"] == 2


def test_an_empty_ledger_has_no_history(tmp_path: Path) -> None:
    con = Ledger(tmp_path, is_writer=True).connect()
    assert counts(con).num_rows == 0
    assert counts(con).schema == HISTORY


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=5))
def test_the_interval_holds_95_percent_of_the_posterior(pairs: list[tuple[int, int]]) -> None:
    alpha, beta_ = (np.array(column) + 0.5 for column in zip(*pairs, strict=True))
    low, high = beta_interval(alpha, beta_)
    assert beta.cdf(high, alpha, beta_) - beta.cdf(low, alpha, beta_) == pytest.approx(0.95)


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5, 0.9])
def test_the_interval_covers_the_true_rate_about_as_often_as_it_says(rate: float) -> None:
    correct = np.arange(17, dtype=np.float64)
    low, high = beta_interval(correct + 0.5, 16 - correct + 0.5)
    covered = binom.pmf(correct, 16, rate)[(low <= rate) & (rate <= high)].sum()
    assert covered == pytest.approx(0.95, abs=0.05)
