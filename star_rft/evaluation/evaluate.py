"""Evaluation on held-out problems: outcomes by problem (eval.parquet), and `HeldOutScores` of each split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.evaluation.by_problem import difference, measures, scores
from star_rft.statistics import bootstrap
from star_rft.types import Decoding, HeldOutScores, Interval, Split

if TYPE_CHECKING:
    import duckdb

EVAL = pa.schema(
    [
        ("split", pa.string()),
        ("problem_id", pa.string()),
        ("group", pa.string()),
        ("n", pa.int32()),
        ("correct", pa.int32()),
        ("unknown", pa.int32()),
        ("truncated", pa.int32()),
        ("tokens", pa.int64()),
        ("answers", pa.list_(pa.string())),
        ("is_correct", pa.list_(pa.bool_())),
        ("greedy_correct", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class HeldOutSampling:
    """How the held-out problems are sampled.

    Attributes:
        ks: The k of pass@k and maj@k.
        n: Samples a problem.
        sampled: Their decoding.
        greedy: Decoding of one greedy sample a problem; None: none is drawn.
        every: Rounds between two evaluations.
        group_by: Key of `meta` by which pass@1 is also given; None: no groups.
    """

    ks: Sequence[int]
    n: int
    sampled: Decoding
    greedy: Decoding | None
    every: int
    group_by: str | None


def per_problem(
    con: duckdb.DuckDBPyConnection,
    *,
    round_index: int,
    sampled_id: str,
    greedy_id: str | None,
    group_by: str | None,
) -> pa.Table:
    """Return the table EVAL of a round: outcomes of each held-out problem, ordered by split and problem id.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round.
        sampled_id: `decode_id` of the samples.
        greedy_id: `decode_id` of the greedy samples; None: there are none.
        group_by: Key of `meta` for the column `group`; None: null.
    """
    group = f"json_extract_string(any_value(meta), '$.{group_by}')" if group_by else "null::varchar"
    table = con.sql(
        f'select split, problem_id, {group} as "group",'
        " (count(*) filter (decode_id = $sampled))::integer as n,"
        " (count(*) filter (decode_id = $sampled and status = 'correct'))::integer as correct,"
        " (count(*) filter (decode_id = $sampled and status = 'unknown'))::integer as unknown,"
        " (count(*) filter (decode_id = $sampled and reason = 'truncated'))::integer as truncated,"
        " sum(tokens)::bigint as tokens,"
        " list(answer order by sample_index) filter (decode_id = $sampled) as answers,"
        " list(status = 'correct' order by sample_index) filter (decode_id = $sampled) as is_correct,"
        " bool_or(status = 'correct') filter (decode_id = $greedy) as greedy_correct"
        " from traces where split in ('dev', 'test') and round = $round group by split, problem_id"
        " order by split, problem_id",
        params={"round": round_index, "sampled": sampled_id, "greedy": greedy_id or ""},
    ).to_arrow_table()
    return table.cast(EVAL)


def read(path: Path, split: Split) -> list[dict[str, Any]]:
    """Return the rows of one split of an eval.parquet."""
    return [row for row in pq.read_table(path).to_pylist() if row["split"] == split]


def held_out_scores(
    rows: Sequence[dict[str, Any]],
    *,
    split: Split,
    ks: Sequence[int],
    base: Sequence[dict[str, Any]] | None = None,
    last: Sequence[dict[str, Any]] | None = None,
) -> HeldOutScores:
    """Return the scores of one split.

    Args:
        rows: Its rows of eval.parquet.
        split: The split.
        ks: The k of pass@k and maj@k; those above the number of samples are left out.
        base: Rows of round 0, for the paired interval `vs_base`; None: it is not computed.
        last: Rows of the evaluation before, for `vs_last`.
    """
    rates = np.array([row["correct"] / row["n"] for row in rows])
    uppers = [(row["correct"] + row["unknown"]) / row["n"] for row in rows]
    greedy = [float(row["greedy_correct"]) for row in rows if row["greedy_correct"] is not None]
    groups: dict[str, list[float]] = defaultdict(list)
    for row, rate in zip(rows, rates, strict=True):
        if row["group"] is not None:
            groups[row["group"]].append(float(rate))
    means = {name: float(np.mean(list(scores(rows, name).values()))) for name in measures(rows, ks) if "@" in name}
    return HeldOutScores(
        split=split,
        problems=len(rows),
        n=rows[0]["n"],
        pass_at_k={name.removeprefix("pass@"): mean for name, mean in means.items() if name.startswith("pass@")},
        pass_at_1_interval=bootstrap(rates),
        pass_at_1_upper=float(np.mean(uppers)),
        maj_at_k={name.removeprefix("maj@"): mean for name, mean in means.items() if name.startswith("maj@")},
        greedy=bootstrap(greedy) if greedy else None,
        by_group={
            name: float(np.mean(values)) for name, values in sorted(groups.items(), key=lambda item: natural(item[0]))
        },
        unknown=sum(row["unknown"] for row in rows),
        truncated=sum(row["truncated"] for row in rows),
        tokens=sum(row["tokens"] for row in rows),
        vs_base=_change(rows, base),
        vs_last=_change(rows, last),
    )


def _change(rows: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]] | None) -> Interval | None:
    return None if earlier is None else difference(scores(rows, "pass@1"), scores(earlier, "pass@1"))


def natural(name: str) -> tuple[bool, float, str]:
    """Return a key that sorts names that are numbers by value, before the others."""
    return (False, float(name), "") if name.replace(".", "", 1).isdigit() else (True, 0.0, name)
