"""What each prompt has come to, round by round, and what it is asked next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.files import write_table
from star_rft.statistics import upper_bound
from star_rft.types import Decoding, Split, digest

if TYPE_CHECKING:
    import duckdb

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


def history(con: duckdb.DuckDBPyConnection, *, only_without_survivors: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one row a train problem: its figures over all rounds and, in `rounds`, round by round, hints aside.

    `pass_rate_at_most` is the one-sided 95% upper bound; after 0 of k it is near 3/k.
    """
    having = "having sum(correct) = 0" if only_without_survivors else ""
    rows = con.sql(
        "with r as (select problem_id, round, count(*)::int as samples,"
        "  count(*) filter (status = 'correct')::int as correct,"
        "  count(*) filter (status = 'unknown')::int as unknown,"
        "  count(*) filter (reason = 'truncated')::int as truncated,"
        "  count(distinct equation_key) filter (status = 'correct')::int as distinct_correct"
        "  from traces where split = 'train' and not hinted group by all)"
        " select problem_id, sum(samples)::int as samples, sum(correct)::int as correct,"
        " sum(unknown)::int as unknown, sum(truncated)::int as truncated,"
        " list({round: round, samples: samples, correct: correct, unknown: unknown,"
        " distinct_correct: distinct_correct} order by round) as rounds,"
        " any_value(p.prompt) as prompt, any_value(p.reference) as reference"
        " from r left join (select * from problems where split = 'train') p using (problem_id)"
        f" group by problem_id {having} order by sum(correct) / sum(samples), problem_id"
    )
    for batch in rows.to_arrow_reader(8192):
        for row in batch.to_pylist():
            yield {**row, "pass_rate_at_most": upper_bound(row["correct"], row["samples"])}


def _groups(ids: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Split into groups of `size`; the last one may be smaller and is never dropped."""
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])
