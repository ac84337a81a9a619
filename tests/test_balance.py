"""B-STaR's balance: the score by hand, the choice, and what a run does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_rft import balance
from star_rft.balance import Tried
from star_rft.ledger import Ledger
from tests.ledgers import ledger_of, sample, scored


def probes(folder: Path) -> Ledger:
    """At decoding `cool` problem a has 4 samples: 3 correct of which 2 are distinct; b has none correct."""
    texts = ["1 + 1 = 2", "1 + 1 = 2", "2 + 0 = 2", "1 + 0 = 1"]
    pairs = [
        (
            sample("a", i, text, split="probe", decode_id="cool"),
            scored([0.9, 0.8, 0.4, 0.1][i], "correct" if i < 3 else "incorrect"),
        )
        for i, text in enumerate(texts)
    ]
    pairs += [(sample("b", i, split="probe", decode_id="cool"), scored(0.0, "incorrect")) for i in range(4)]
    pairs += [(sample("a", i, f"{i} + 2 = {i + 2}", split="probe", decode_id="warm"), scored(1.0)) for i in range(4)]
    return ledger_of(folder, pairs)


def test_the_balance_score_by_hand(tmp_path: Path) -> None:
    con = probes(tmp_path).connect()
    tried = balance.scores(con, round=1, temperature_of={"cool": 0.5, "warm": 1.0}, thresholds=[None, 0.5], target=4)
    by_pair = {(t.temperature, t.threshold): t.score for t in tried}
    assert by_pair[0.5, None] == pytest.approx((min(2 / 4, 1) * 2 / 4 + 0) / 2)
    assert by_pair[0.5, 0.5] == pytest.approx((min(1 / 4, 1) * 1 / 2 + 0) / 2)  # two kept, one distinct
    assert by_pair[1.0, None] == pytest.approx(1.0)


def test_of_equal_pairs_the_coolest_and_strictest_is_taken() -> None:
    tried = [Tried(1.0, None, 0.5), Tried(0.7, None, 0.5), Tried(0.7, 0.6, 0.5), Tried(0.5, None, 0.4)]
    assert balance.best(tried) == Tried(0.7, 0.6, 0.5)


def test_the_choice_is_read_back(tmp_path: Path) -> None:
    assert balance.chosen(tmp_path / "balance.json") is None
    balance.write(tmp_path / "balance.json", [Tried(0.7, None, 0.2), Tried(1.0, 0.5, 0.3)])
    assert balance.chosen(tmp_path / "balance.json") == {"temperature": 1.0, "threshold": 0.5, "score": 0.3}
