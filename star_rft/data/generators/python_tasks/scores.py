"""Functions of a dictionary of names and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from star_rft.data.generators.python_tasks.family import MIDDLE, Family
from star_rft.data.generators.python_tasks.inputs import Kind

SCORES: Mapping[str, Kind] = {"scores": "scores"}
ON_SCORES = (
    Family(
        "get_or",
        1,
        {"scores": "scores", "name": "name"},
        {"k": range(0, 24)},
        (
            (
                "get_score",
                "returns the value of the key `name` in the dictionary `scores`, or {k} without such a key",
            ),
        ),
        "return scores.get(name, {k})",
    ),
    Family(
        "total_above",
        2,
        SCORES,
        {"k": range(0, 24)},
        (("total_above", "returns the sum of those values of the dictionary `scores` that are greater than {k}"),),
        "return sum(value for value in scores.values() if value > {k})",
    ),
    Family(
        "raise_all",
        2,
        SCORES,
        {"k": MIDDLE},
        (("raise_all", "returns a dictionary with the keys of `scores` and {k} added to each value"),),
        "return {{name: value + {k} for name, value in scores.items()}}",
    ),
    Family(
        "names_from",
        3,
        SCORES,
        {"k": range(0, 24)},
        (("best_names", "returns a sorted list of the keys of the dictionary `scores` whose value is at least {k}"),),
        "return sorted(name for name, value in scores.items() if value >= {k})",
    ),
    Family(
        "without_low",
        3,
        SCORES,
        {"k": range(0, 24)},
        (("drop_low", "returns a dictionary of those entries of `scores` whose value is not less than {k}"),),
        "return {{name: value for name, value in scores.items() if value >= {k}}}",
    ),
)
