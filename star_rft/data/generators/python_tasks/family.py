"""The record of a family of programming tasks: a kind of function with open parameters.

In texts `{k}` is a parameter and `{k!r}` its Python form, as in `str.format`. No two variants, of one family or of two,
may be the same function: `allows` leaves out parameters that would make them so (multiples of 2 or 4 are multiples of
2). `tasks._told_apart` raises ValueError for two that no input distinguishes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from star_rft.data.generators.python_tasks.inputs import Kind

Telling = tuple[str, str]  # the function's name, and what it does: "returns ..."


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of function.

    Attributes:
        name: Name of the family.
        level: Difficulty: 1 is a single expression, 3 takes several steps.
        arguments: Kind of each argument, by its name.
        params: Values of each parameter, by its name.
        tellings: Names and descriptions, of which a task has one.
        body: The reference solution below its `def` line, indented by four spaces.
        allows: Whether parameters make a function of their own.
    """

    name: str
    level: int
    arguments: Mapping[str, Kind]
    params: Mapping[str, Sequence[Any]]
    tellings: tuple[Telling, ...]
    body: str
    allows: Callable[[Mapping[str, Any]], bool] = field(default=lambda _params: True)


# Parameters that many families share.
SMALL, MIDDLE, LARGE = range(2, 10), range(2, 26), range(5, 29)
