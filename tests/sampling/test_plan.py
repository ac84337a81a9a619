from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_rft.sampling.plan import PlanSpec, Unit, plan_table, read_plan, write_plan
from star_rft.types import Split

ASKING = PlanSpec(round=1, split="train", source="policy", decode_ids=("cool", "warm"), batch_sizes=(8, 4))
Key = tuple[int, int, Split, str, int, str]
ONE = PlanSpec(round=1, split="train", source="policy", decode_ids=("cool",), batch_sizes=(8,))


def read(path: Path, *tables: pa.Table) -> list[Unit]:
    write_plan(path, tables)
    return read_plan(path)


def seed_alone(run_seed: int, round_index: int, split: Split, problem: str, sample_index: int, decode_id: str) -> int:
    """Return the seed of a request in a plan of this request alone."""
    asking = PlanSpec(round_index, split, "policy", (decode_id,), (1,), first=sample_index)
    (seed,) = plan_table([problem], asking, counts=1, run_seed=run_seed, unit_size=1)["seed"].to_pylist()
    return int(seed)


def asked(units: list[Unit]) -> list[tuple[str, int]]:
    return [(r.problem_id, r.sample_index) for unit in units for r in unit.requests()]


def test_every_problem_gets_its_attempts_also_those_of_a_last_partial_unit(tmp_path: Path) -> None:
    """The last partial batch of prompts is silently dropped in STaR's code."""
    units = read(tmp_path / "p", plan_table([f"p{i}" for i in range(7)], ONE, counts=4, run_seed=0, unit_size=12))
    assert [len(unit) for unit in units] == [12, 12, 4]
    assert asked(units) == [(f"p{i}", a) for i in range(7) for a in range(4)]


def test_a_later_wave_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    settings = {"run_seed": 3, "unit_size": 8}
    first = read(tmp_path / "a", plan_table(["a", "b", "c"], ONE, counts=np.array([2, 3, 0]), **settings))
    begins, counts = np.array([2, 3, 0]), np.array([2, 0, 5])
    later = read(tmp_path / "b", plan_table(["a", "b", "c"], ONE, counts=counts, begins=begins, wave=1, **settings))
    whole = read(tmp_path / "c", plan_table(["a", "b", "c"], ONE, counts=np.array([4, 3, 5]), **settings))
    requests = [r for unit in (*first, *later) for r in unit.requests()]
    assert sorted(asked(whole)) == sorted(asked(first + later))
    assert {r for unit in whole for r in unit.requests()} == set(requests)
    assert not {unit.name for unit in first} & {unit.name for unit in later}


def test_the_attempts_of_a_problem_take_the_decodings_in_turn_and_stay_together(tmp_path: Path) -> None:
    begins = np.array([1, 0])
    table = plan_table(["a", "b"], ASKING, counts=np.array([3, 2]), begins=begins, run_seed=0, unit_size=2)
    units = read(tmp_path / "p", table)
    found = [(u.decode_id, u.batch_size, [(r.problem_id, r.sample_index) for r in u.requests()]) for u in units]
    assert found == [("cool", 8, [("a", 2), ("b", 0)]), ("warm", 4, [("a", 1), ("a", 3)]), ("warm", 4, [("b", 1)])]


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    decodings=st.integers(1, 3),
    unit_size=st.integers(1, 20),
)
def test_a_plan_holds_each_request_once_in_units_of_about_a_size(
    counts: list[int], decodings: int, unit_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asking = PlanSpec(2, "dev", "x", [f"{i}{i}{i}{i}{i}{i}" for i in range(decodings)], [1] * decodings, first=5)
    ids = [f"p{i}" for i in range(len(counts))]
    table = plan_table(ids, asking, counts=np.array(counts), run_seed=1, unit_size=unit_size)
    units = read(tmp_path_factory.mktemp("plan") / "p", table)
    assert sorted(asked(units)) == sorted((f"p{i}", 5 + a) for i, n in enumerate(counts) for a in range(n))
    assert len({unit.name for unit in units}) == len(units)
    assert all(len(unit) < unit_size + max(counts) for unit in units)
    for unit in units:
        for request in unit.requests():
            seed = seed_alone(1, 2, "dev", request.problem_id, request.sample_index, unit.decode_id)
            assert request.seed == seed


@pytest.mark.full
def test_a_plan_of_a_million_prompts_is_made_and_read_in_seconds(tmp_path: Path) -> None:
    ids = [f"{i:016x}" for i in range(1_000_000)]
    began = time.process_time()
    write_plan(tmp_path / "p", [plan_table(ids, ONE, counts=4, run_seed=0, unit_size=1024)])
    units = read_plan(tmp_path / "p")
    assert len(units) == -(-4_000_000 // 1024)
    assert time.process_time() - began < 20


def test_an_empty_plan_has_no_units(tmp_path: Path) -> None:
    assert read(tmp_path / "p") == []
    assert read(tmp_path / "q", plan_table(["a"], ONE, counts=0, run_seed=0, unit_size=4)) == []


def test_a_seed_belongs_to_its_request_alone() -> None:
    base: Key = (0, 1, "train", "p", 0, "d")
    others: list[Key] = [(1, 1, "train", "p", 0, "d"), (0, 2, "train", "p", 0, "d"), (0, 1, "dev", "p", 0, "d")]
    others += [(0, 1, "train", "q", 0, "d"), (0, 1, "train", "p", 1, "d"), (0, 1, "train", "p", 0, "e")]
    seeds = {seed_alone(*key) for key in (base, *others)}
    assert len(seeds) == 7
    assert seed_alone(*base) == seed_alone(*base)
    assert all(0 <= seed < 2**64 for seed in seeds)
