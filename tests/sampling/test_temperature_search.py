"""B-STaR's balance: the score by hand, the choice, and what a run does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import star_rft
from star_rft.ledger import Ledger
from star_rft.sampling import temperature_search
from star_rft.sampling.temperature_search import Trial
from tests.small_ledgers import ledger_of, sample, scored
from tests.small_runs import write_config


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
    tried = temperature_search.scores(
        con, round_index=1, temperature_of={"cool": 0.5, "warm": 1.0}, thresholds=[None, 0.5], target=4
    )
    by_pair = {(t.temperature, t.threshold): t.score for t in tried}
    assert by_pair[0.5, None] == pytest.approx((min(2 / 4, 1) * 2 / 4 + 0) / 2)
    assert by_pair[0.5, 0.5] == pytest.approx((min(1 / 4, 1) * 1 / 2 + 0) / 2)  # two kept, one distinct
    assert by_pair[1.0, None] == pytest.approx(1.0)


def test_of_equal_pairs_the_coolest_and_strictest_is_taken() -> None:
    tried = [Trial(1.0, None, 0.5), Trial(0.7, None, 0.5), Trial(0.7, 0.6, 0.5), Trial(0.5, None, 0.4)]
    assert temperature_search.best(tried) == Trial(0.7, 0.6, 0.5)


@pytest.mark.full
def test_the_chosen_threshold_drops_low_scores_of_what_is_correct(tmp_path: Path) -> None:
    """Majority scores are shares of votes: 0.9 keeps what (nearly) all samples of a problem agree on."""
    changes = {
        "rounds": 1,
        "sample": {"n": 4, "max_tokens": 64, "batch_size": 16},
        "scorer": {"name": "majority"},
        "temperature_search": {"temperatures": [0.9], "thresholds": [0.9], "problems": 2, "n": 2, "target": 2},
        "train": {"max_steps": 1, "batch_size": 4},
    }
    path = write_config(tmp_path, **changes)
    (*_, report) = star_rft.run(path)
    assert report.temperature_search is not None
    assert report.temperature_search["threshold"] == 0.9
    con = Ledger(tmp_path / "run").connect()
    kinds = "select why, min(score), max(score), count(*) from selection join scores using (sample_id)"
    found = {
        why: (low, high) for why, low, high, _ in con.sql(f"{kinds} where why <> 'incorrect' group by why").fetchall()
    }
    assert found["below_threshold"][1] < 0.9 <= min(low for why, (low, _) in found.items() if why != "below_threshold")


def test_the_choice_is_read_back(tmp_path: Path) -> None:
    assert temperature_search.chosen(tmp_path / "temperature_search.json") is None
    temperature_search.write(tmp_path / "temperature_search.json", [Trial(0.7, None, 0.2), Trial(1.0, 0.5, 0.3)])
    assert temperature_search.chosen(tmp_path / "temperature_search.json") == {
        "temperature": 1.0,
        "threshold": 0.5,
        "score": 0.3,
    }
