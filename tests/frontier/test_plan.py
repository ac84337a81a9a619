from __future__ import annotations

from pathlib import Path

from star_rft.frontier import fixed_k, history, read_plan, request_seed, write_plan
from star_rft.types import Decoding
from tests.ledgers import commit, ledger_of, sample, verdict

DECODING = Decoding(temperature=1.0, max_tokens=10)
SETTINGS = {"round": 1, "decoding": DECODING, "run_seed": 0, "batch_size": 8}


def test_every_problem_gets_its_attempts_also_those_of_a_last_partial_unit() -> None:
    """The last partial batch of prompts is silently dropped in STaR's code."""
    units = fixed_k([f"p{i}" for i in range(7)], attempts=range(4), split="train", unit_size=12, **SETTINGS)  # type: ignore[arg-type]
    assert [len(unit.requests) for unit in units] == [12, 12, 4]
    asked = {(r.problem_id, r.attempt) for unit in units for r in unit.requests}
    assert asked == {(f"p{i}", a) for i in range(7) for a in range(4)}


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    units = fixed_k(["a", "b", "c"], attempts=range(2), split="dev", unit_size=4, **SETTINGS)  # type: ignore[arg-type]
    write_plan(tmp_path / "plan.parquet", units)
    assert read_plan(tmp_path / "plan.parquet") == units


def test_a_seed_belongs_to_its_request_alone() -> None:
    base = (0, 1, "train", "p", 0, "d")
    others = [(1, 1, "train", "p", 0, "d"), (0, 2, "train", "p", 0, "d"), (0, 1, "dev", "p", 0, "d")]
    others += [(0, 1, "train", "q", 0, "d"), (0, 1, "train", "p", 1, "d"), (0, 1, "train", "p", 0, "e")]
    seeds = {request_seed(*key) for key in (base, *others)}
    assert len(seeds) == 7
    assert request_seed(*base) == request_seed(*base)
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_history_keeps_every_round_of_a_prompt(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", i), verdict("incorrect")) for i in range(2)])
    second = [(sample("a", 0, round=2), verdict()), (sample("a", 1, round=2), verdict("unknown", None))]
    commit(ledger, "u1", second)
    (row,) = history(ledger.connect())
    assert [(r["round"], r["correct"], r["samples"], r["unknown"]) for r in row["rounds"]] == [
        (1, 0, 2, 0),
        (2, 1, 2, 1),
    ]
    assert (row["samples"], row["correct"], row["unknown"]) == (4, 1, 1)
    assert list(history(ledger.connect(), only_without_survivors=True)) == []
