"""Which requests a round draws, in which units: fixed before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.files import write_table
from star_rft.types import Decoding, Split, digest

POLICY = "policy"

PLAN = pa.schema(
    [
        ("unit", pa.string()),
        ("split", pa.string()),
        ("decode_id", pa.string()),
        ("source", pa.string()),
        ("batch_size", pa.int32()),
        ("problem_id", pa.string()),
        ("attempt", pa.int32()),
        ("seed", pa.uint64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Planned:
    problem_id: str
    attempt: int
    seed: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Requests that are drawn together, in this order and batch size, and commit together.

    `source` names who is asked and how: the policy, another model, the policy with hints.
    """

    name: str
    split: Split
    decode_id: str
    source: str
    batch_size: int
    requests: tuple[Planned, ...]


def request_seed(run_seed: int, round: int, split: str, problem_id: str, attempt: int, decode_id: str) -> int:
    """Return 64 bits that belong to this request alone, whatever else is sampled beside it."""
    return int(digest("seed", run_seed, round, split, problem_id, attempt, decode_id), 16)


def fixed_k(
    problem_ids: Sequence[str],
    *,
    attempts: Sequence[int],
    round: int,
    split: Split,
    decoding: Decoding,
    run_seed: int,
    unit_size: int,
    batch_size: int,
    source: str = POLICY,
) -> list[Unit]:
    """Plan these attempts for every problem; a problem's attempts stay in one unit and share their prefill."""
    units = []
    by_whom = "" if source == POLICY else f"{digest(source, size=2)}-"
    for index, group in enumerate(_groups(problem_ids, max(1, unit_size // len(attempts)))):
        requests = tuple(
            Planned(pid, attempt, request_seed(run_seed, round, split, pid, attempt, decoding.id))
            for pid in group
            for attempt in attempts
        )
        name = f"r{round:03d}-{split}-{by_whom}{decoding.id[:6]}-{index:05d}"
        units.append(Unit(name, split, decoding.id, source, batch_size, requests))
    return units


def write_plan(path: Path, units: Sequence[Unit]) -> None:
    rows = [
        {
            "unit": unit.name,
            "split": unit.split,
            "decode_id": unit.decode_id,
            "source": unit.source,
            "batch_size": unit.batch_size,
            "problem_id": request.problem_id,
            "attempt": request.attempt,
            "seed": request.seed,
        }
        for unit in units
        for request in unit.requests
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=PLAN))


def read_plan(path: Path) -> list[Unit]:
    requests: dict[tuple[str, Split, str, str, int], list[Planned]] = {}
    for row in pq.read_table(path).to_pylist():
        key = (row["unit"], row["split"], row["decode_id"], row["source"], row["batch_size"])
        requests.setdefault(key, []).append(Planned(row["problem_id"], row["attempt"], row["seed"]))
    return [Unit(*key, tuple(planned)) for key, planned in requests.items()]


def _groups(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Split into groups of `size`; the last one may be smaller and is never dropped."""
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])
