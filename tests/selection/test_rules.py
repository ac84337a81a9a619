from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from star_rft.ledger import Ledger
from star_rft.types import Sample
from tests.small_ledgers import commit, ledger_of, sample, selection, verdict
from verifiers.types import Verdict

Pairs = list[tuple[Sample, Verdict]]


def chosen(ledger: Ledger, *rules: Any, **options: Any) -> list[dict[str, Any]]:
    """Every trace with why it was selected or dropped."""
    rules = rules or ("correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 4})
    rows: list[dict[str, Any]] = selection(ledger, *rules, **options).traces.to_arrow_table().to_pylist()
    return rows


def why(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["why"] for row in rows)


def test_every_trace_has_a_reason_and_only_correct_finished_ones_are_selected(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        [
            (sample("a", 0, "1 + 1 = 2"), verdict()),
            (sample("a", 1, "so 1+1=2"), verdict()),
            (sample("a", 2, "2 + 0 = 2"), verdict("incorrect", "3")),
            (sample("a", 3, "3 - 1 = 2"), verdict("unknown", None)),
            (sample("a", 4, "4 - 2 = 2", finish="length"), verdict()),
        ],
    )
    rows = chosen(ledger)
    assert why(rows) == {"selected": 1, "duplicate": 1, "incorrect": 1, "unknown": 1, "truncated": 1}
    kept = next(row for row in rows if row["is_selected"])
    assert next(row for row in rows if row["why"] == "duplicate")["duplicate_of"] == kept["sample_id"]


def test_the_cap_keeps_so_many_a_problem_and_names_the_rest(tmp_path: Path) -> None:
    pairs = [(sample(p, i, f"{i} + 1 = {i + 1}"), verdict()) for p in "ab" for i in range(6)]
    rows = chosen(ledger_of(tmp_path, pairs), "correct", {"cap": 4})
    assert why(rows) == {"selected": 8, "over_cap": 4}
    assert Counter(row["problem_id"] for row in rows if row["is_selected"]) == {"a": 4, "b": 4}


def test_a_false_trace_never_stands_for_a_correct_one_with_its_equations(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        [
            (sample("a", 0, "1 + 1 = 2 no"), verdict("incorrect")),
            (sample("a", 1, "1 + 1 = 2 yes"), verdict()),
        ],
    )
    assert why(chosen(ledger)) == {"incorrect": 1, "selected": 1}


@pytest.mark.parametrize(("prefer", "sample_index"), [("first", 0), ("shortest", 1), ("most_likely", 0)])
def test_among_equals_the_preferred_one_stays(tmp_path: Path, prefer: str, sample_index: int) -> None:
    long, short = sample("a", 0, "1+1=2 long", tokens=9), sample("a", 1, "1+1=2", tokens=2)
    rules = ["correct", {"dedup": {"by": "equations", "prefer": prefer}}]
    rows = chosen(ledger_of(tmp_path, [(long, verdict()), (short, verdict())]), *rules)
    assert [row["sample_id"] for row in rows if row["is_selected"]] == [(long, short)[sample_index].id]


def test_earlier_rounds_are_replayed_only_when_asked(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0, "1 + 1 = 2"), verdict())])
    commit(ledger, "u1", [(sample("a", 0, "3 - 1 = 2", round_index=2), verdict())])
    assert len(chosen(ledger, round_index=2, rounds="all")) == 2
    assert len(chosen(ledger, round_index=2, rounds="last")) == 1
    assert len(chosen(ledger, round_index=1, rounds="all")) == 1


def test_per_problem_weights_sum_to_one_a_problem(tmp_path: Path) -> None:
    pairs = [(sample("a", i, f"{i} + 1 = {i + 1}"), verdict()) for i in range(3)]
    pairs += [(sample("a", 9), verdict("incorrect")), (sample("b", 0), verdict())]
    rows = chosen(ledger_of(tmp_path, pairs), weighting="per_problem")
    weights: Counter[str] = Counter()
    for row in rows:
        weights[row["problem_id"]] += row["weight"]
    assert weights == {"a": pytest.approx(1.0), "b": pytest.approx(1.0)}


def test_held_out_samples_are_never_selected(tmp_path: Path) -> None:
    assert chosen(ledger_of(tmp_path, [(sample("a", 0, split="dev"), verdict())])) == []


def test_a_later_verdict_decides(tmp_path: Path) -> None:
    row = sample("a", 0)
    ledger = ledger_of(tmp_path, [(row, verdict("incorrect"))])
    ledger.supersede("v1", [(row.id, row.text, verdict("correct"))])
    assert why(chosen(ledger)) == {"selected": 1}
