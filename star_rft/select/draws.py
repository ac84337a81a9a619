"""Rules that look at the traces of a problem together, one problem after the other, or draw at random."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from star_rft.select.pool import ORDERS, Pool
from star_rft.types import digest

CHANGES = pa.schema([("sample_id", pa.string()), ("why", pa.string()), ("duplicate_of", pa.string())])
Row = dict[str, Any]


def keep_furthest(pool: Pool, column: str) -> None:
    """Keep, of the traces with one key, the one furthest in edit distance from what is kept of the other keys.

    The keys of a problem are taken in the order in which they first occur; the first of all has nothing to be far
    from, and keeps its first trace (RFT, 2308.01825, appendix; the distance is Levenshtein's, in characters).
    """
    query = (
        f"select problem_id, sample_id, {column} as key, text from pool join samples using (sample_id, problem_id)"
        f" where why is null order by problem_id, {_qualified(ORDERS['first'])}"
    )
    _apply(pool, (change for rows in pool.by_problem(query) for change in _furthest_of(rows)))


def _qualified(order: str) -> str:
    return ", ".join(f"pool.{column.strip()}" for column in order.split(","))


def _furthest_of(rows: list[Row]) -> Iterator[Row]:
    from rapidfuzz.distance import Levenshtein

    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["key"], []).append(row)
    kept: list[str] = []
    for group in groups.values():
        distances = [sum(Levenshtein.distance(row["text"], text) for text in kept) for row in group]
        chosen = group[distances.index(max(distances))]
        kept.append(chosen["text"])
        for row in group:
            if row is not chosen:
                yield {"sample_id": row["sample_id"], "why": "duplicate", "duplicate_of": chosen["sample_id"]}


def rejection_sampling(pool: Pool, *, n: int, beta: float) -> None:
    pool.drop("score is null", "'no_score'")
    query = f"select problem_id, sample_id, score from pool where why is null order by problem_id, {ORDERS['first']}"
    for_each = (_rejected_of(rows, n=n, beta=beta, seed=pool.seed) for rows in pool.by_problem(query))
    _apply(pool, (change for changes in for_each for change in changes))


def _rejected_of(rows: list[Row], *, n: int, beta: float, seed: int) -> Iterator[Row]:
    """Go over what is left again and again, each time against the best score left, until `n` are accepted."""
    generator = random.Random(digest("rejection sampling", seed, *(row["sample_id"] for row in rows)))
    left, accepted = rows, 0
    while left and accepted < n:
        best = max(row["score"] for row in left)
        rest = []
        for row in left:
            if accepted < n and generator.random() < math.exp((row["score"] - best) / beta):
                accepted += 1
            else:
                rest.append(row)
        left = rest
    for row in left:
        yield {"sample_id": row["sample_id"], "why": "rejected", "duplicate_of": None}


def control(pool: Pool, *, of: str) -> None:
    """Exchange what is selected for as many traces drawn at random; everything else was `not_drawn`.

    Problems that are held out of training stay out.
    """
    size = pool.count()
    condition = "finish_reason = 'stop' and why is distinct from 'suspect_gold'"
    condition += " and status = 'correct'" if of == "correct" else ""
    place = f"row_number() over (partition by ({condition}) order by {pool.random_order('control')})"
    drawn = f"case when ({condition}) and place <= {size} then null else 'not_drawn' end"
    pool.change("true", {"why": drawn, "duplicate_of": "null::varchar"}, {"place": place})


def _apply(pool: Pool, changes: Iterator[Row]) -> None:
    pool.set_why(pa.Table.from_pylist(list(changes), schema=CHANGES))
