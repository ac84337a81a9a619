"""Plans: the requests of a wave in units, with their seeds, fixed before anything is drawn.

A plan is a table with a row for each request. It is computed and stored by columns, so that a million problems never
become Python objects. Axes: N problems, R requests, D decodings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.files import write_table
from star_rft.statistics import Ints
from star_rft.types import Split, digest

Words = npt.NDArray[np.uint64]

POLICY = "policy"

_NAME = pa.dictionary(pa.int32(), pa.string())
PLAN = pa.schema(
    [
        ("unit", _NAME),
        ("split", _NAME),
        ("decode_id", _NAME),
        ("source", _NAME),
        ("batch_size", pa.int32()),
        ("problem_id", _NAME),
        ("sample_index", pa.int32()),
        ("seed", pa.uint64()),
    ]
)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A row of a plan: which sample of which problem, and the 64-bit seed that it is drawn with."""

    problem_id: str
    sample_index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Unit:
    """Requests that are drawn together, in this order and batch size, and commit together.

    `source` is the name of the `Source`: the policy, another model, or the policy with hints. `rows` are the unit's
    rows of the plan.
    """

    name: str
    split: Split
    decode_id: str
    source: str
    batch_size: int
    rows: pa.Table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def requests(self) -> Iterator[PlannedRequest]:
        """Yield the unit's requests in the order in which they are drawn."""
        columns = (self.rows[name].to_pylist() for name in ("problem_id", "sample_index", "seed"))
        return (PlannedRequest(*row) for row in zip(*columns, strict=True))


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """What the requests of one source have in common. Sample i takes decoding (i - first) modulo their number.

    `batch_sizes` are by decoding: how many completions the engine draws at once. `first` is the source's first index.
    """

    round: int
    split: Split
    source: str
    decode_ids: Sequence[str]
    batch_sizes: Sequence[int]
    first: int = 0


def plan_table(
    problem_ids: Sequence[str],
    spec: PlanSpec,
    *,
    counts: int | Ints,
    begins: int | Ints = 0,
    run_seed: int,
    unit_size: int,
    wave: int = 0,
) -> pa.Table:
    """Plan `counts` more samples of each problem, after the `begins` that it has of this source (both N).

    A unit takes problems until it has `unit_size` requests. A problem's samples at one decoding stay in one unit,
    where they share their prefill.
    """
    counts_N = np.broadcast_to(np.asarray(counts, dtype=np.int64), len(problem_ids))
    starts_N = np.broadcast_to(np.asarray(begins, dtype=np.int64), len(problem_ids))
    # One row a request, problem by problem: `turn_R` is the request's number among all samples of its problem by this
    # source, which chooses its decoding. Then a stable sort by decoding, since a unit has one decoding.
    problem_R = np.repeat(np.arange(len(problem_ids)), counts_N)
    within_R = np.arange(problem_R.size) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
    turn_R = starts_N[problem_R] + within_R
    decoding_R = turn_R % len(spec.decode_ids)
    order_R = np.argsort(decoding_R, kind="stable")
    problem_R, turn_R, decoding_R = problem_R[order_R], turn_R[order_R], decoding_R[order_R]
    names, unit_R = _units(spec, problem_R, decoding_R, unit_size=unit_size, wave=wave)
    hashes_N = np.array([_hash(problem_id) for problem_id in problem_ids], dtype=np.uint64)
    bases_D = np.array([_base(run_seed, spec, decode_id) for decode_id in spec.decode_ids], dtype=np.uint64)
    sample_index_R = spec.first + turn_R
    zeros_R = np.zeros(problem_R.size, dtype=np.int32)
    columns = [
        pa.DictionaryArray.from_arrays(unit_R.astype(np.int32), pa.array(names, pa.string())),
        pa.DictionaryArray.from_arrays(zeros_R, pa.array([spec.split])),
        pa.DictionaryArray.from_arrays(decoding_R.astype(np.int32), pa.array(spec.decode_ids, pa.string())),
        pa.DictionaryArray.from_arrays(zeros_R, pa.array([spec.source])),
        pa.array(np.asarray(spec.batch_sizes, dtype=np.int32)[decoding_R]),
        pa.DictionaryArray.from_arrays(problem_R.astype(np.int32), pa.array(problem_ids, pa.string())),
        pa.array(sample_index_R.astype(np.int32)),
        pa.array(_seeds(bases_D[decoding_R], hashes_N[problem_R], sample_index_R.astype(np.uint64))),
    ]
    return pa.Table.from_arrays(columns, schema=PLAN)


def write_plan(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write the tables of all sources as one plan; a plan without requests is written too."""
    write_table(path, pa.concat_tables([PLAN.empty_table(), *tables]).unify_dictionaries())


def read_plan(path: Path) -> list[Unit]:
    """Return the units of a plan, in its order; `Unit.requests` makes objects of their rows when it is called."""
    table = pq.read_table(path, read_dictionary=[f.name for f in PLAN if f.type == _NAME]).cast(PLAN).combine_chunks()
    if table.num_rows == 0:
        return []
    (names,) = table["unit"].chunks
    changes = np.flatnonzero(np.diff(names.indices.to_numpy())) + 1
    bounds = [0, *changes.tolist(), table.num_rows]
    return [_unit(table.slice(start, stop - start)) for start, stop in pairwise(bounds)]


def _unit(rows: pa.Table) -> Unit:
    first = rows.slice(0, 1).to_pylist()[0]
    return Unit(first["unit"], first["split"], first["decode_id"], first["source"], first["batch_size"], rows)


def _units(
    spec: PlanSpec, problem_R: Ints, decoding_R: Ints, *, unit_size: int, wave: int
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the names of the units and, for each request, the index of its unit.

    Requests are sorted by decoding, then by problem.
    """
    if problem_R.size == 0:
        return [], np.zeros(0, dtype=np.int64)
    index_R = np.arange(problem_R.size)
    # A request's unit is numbered by where its problem begins within its decoding, so no problem is cut in two.
    decoding_began_R = index_R[np.searchsorted(decoding_R, decoding_R)]
    is_new_R = np.r_[True, (np.diff(problem_R) != 0) | (np.diff(decoding_R) != 0)]
    problem_began_R = np.maximum.accumulate(np.where(is_new_R, index_R, 0))
    place_R = (problem_began_R - decoding_began_R) // unit_size
    changes_R = np.r_[True, (np.diff(place_R) != 0) | (np.diff(decoding_R) != 0)]
    firsts = np.flatnonzero(changes_R)
    of_source = "" if spec.source == POLICY else f"{digest(spec.source, size=2)}-"
    in_wave = f"w{wave:02d}-" if wave else ""
    names = [
        f"r{spec.round:03d}-{spec.split}-{in_wave}{of_source}{spec.decode_ids[decoding][:6]}-{place:05d}"
        for decoding, place in zip(decoding_R[firsts], place_R[firsts], strict=True)
    ]
    return names, np.cumsum(changes_R) - 1


def _hash(problem_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(problem_id.encode(), digest_size=8).digest(), "little")


def _base(run_seed: int, spec: PlanSpec, decode_id: str) -> int:
    return int(digest("seed", run_seed, spec.round, spec.split, decode_id), 16)


def _seeds(base_R: Words, problem_R: Words, sample_index_R: Words) -> Words:
    # Sums wrap at 64 bits. Each is mixed, so that neighbouring sample indices have unrelated seeds.
    return _mixed(_mixed(base_R + problem_R) + sample_index_R)


def _mixed(words: Words) -> Words:
    """Spread 64 bits over 64 bits, one to one: the finaliser of splitmix64 (Steele et al. 2014, figure 19)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
