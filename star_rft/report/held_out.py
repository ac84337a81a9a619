"""What the page says of held-out problems: intervals of every figure, pass@k for every k, accuracy by difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from star_rft.evaluation import evaluate
from star_rft.runs.folder import RunFolder
from star_rft.statistics import bootstrap_columns, majority_at_k, pass_at_k
from star_rft.types import Interval, Split

Floats = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]

# Of so many values of k a curve is drawn, close together where k is small: its bends are there.
CURVE_POINTS = 14
# By pass rate of the first evaluated model: upper bounds, and what such problems are called.
DIFFICULTY = (
    (0.0, "never solved before"),
    (0.25, "up to 1 in 4"),
    (0.75, "1 in 4 to 3 in 4"),
    (0.999, "more than 3 in 4"),
    (1.0, "always solved before"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluated round on one split. `named` are pass@k and maj@k of the config's k; `curve` is pass@k by k."""

    round: int
    problems: int
    n: int
    named: dict[str, Interval]
    curve: dict[int, Interval]
    by_group: dict[str, float]


def measured(folder: RunFolder, rounds: Sequence[int], *, split: Split, ks: Sequence[int]) -> list[Measured]:
    """Return each evaluated round's figures on a split, oldest first; none where the split was not evaluated.

    `ks` are those of the config. Where problems have no group of their own, they are grouped by how often the first
    evaluated model solved them.
    """
    evaluated = [number for number in rounds if folder.eval(number).exists()]
    rows_by_round = {number: evaluate.read(folder.eval(number), split) for number in evaluated}
    rows_by_round = {number: rows for number, rows in rows_by_round.items() if rows}
    if not rows_by_round:
        return []
    first = next(iter(rows_by_round.values()))
    has_groups = any(row["group"] is not None for row in first)
    difficulty = {} if has_groups else {row["problem_id"]: _difficulty(row) for row in first}
    return [_measured(number, rows, ks, difficulty) for number, rows in rows_by_round.items()]


def is_by_difficulty(found: Sequence[Measured]) -> bool:
    """Whether the groups are those of `DIFFICULTY`."""
    names = {name for _, name in DIFFICULTY}
    return bool(found) and found[0].by_group.keys() <= names


def crossing(later: Measured, earlier: Measured) -> int | None:
    """Return the smallest k of the curves at which a round lies below an earlier one; None where it never does."""
    both = sorted(later.curve.keys() & earlier.curve.keys())
    return next((k for k in both if later.curve[k].value < earlier.curve[k].value - 1e-9), None)


def _measured(round: int, rows: Rows, ks: Sequence[int], difficulty: Mapping[str, str]) -> Measured:
    n = min(row["n"] for row in rows)
    points = _points(n)
    asked = [k for k in sorted(ks) if k <= n]
    columns = {f"pass@{k}": [pass_at_k(row["correct"], row["n"], k) for row in rows] for k in {*asked, *points}}
    columns |= {
        f"maj@{k}": [majority_at_k(row["answers"], row["is_correct"], k) for row in rows] for k in asked if k > 1
    }
    if all(row["greedy_correct"] is not None for row in rows):
        columns["greedy"] = [float(row["greedy_correct"]) for row in rows]
    intervals = dict(zip(columns, bootstrap_columns(np.array(list(columns.values())).T), strict=True))
    return Measured(
        round=round,
        problems=len(rows),
        n=n,
        named={name: found for name, found in intervals.items() if _is_named(name, asked)},
        curve={k: intervals[f"pass@{k}"] for k in points},
        by_group=_by_group(rows, difficulty),
    )


def _is_named(name: str, asked: Sequence[int]) -> bool:
    return name == "greedy" or int(name.partition("@")[2]) in asked


def _points(n: int) -> list[int]:
    return sorted({round(float(k)) for k in np.geomspace(1, n, min(CURVE_POINTS, n))})


def _by_group(rows: Rows, difficulty: Mapping[str, str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for row in rows:
        name = difficulty.get(row["problem_id"], row["group"])
        if name is not None:
            groups.setdefault(name, []).append(row["correct"] / row["n"])
    known = [name for _, name in DIFFICULTY]
    order = sorted(groups, key=lambda name: (known.index(name) if name in known else -1, evaluate.natural(name)))
    return {name: float(np.mean(groups[name])) for name in order}


def _difficulty(row: Mapping[str, Any]) -> str:
    rate = row["correct"] / row["n"]
    return next(name for bound, name in DIFFICULTY if rate <= bound)
