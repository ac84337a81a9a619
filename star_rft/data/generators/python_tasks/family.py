"""The record of a family of programming tasks: one kind of function, its parameters left open.

`{k}` in a text is a parameter, `{k!r}` its Python form, as in `str.format`. Two variants of all families together never
are the same function: where parameters could make them so (multiples of 2 or 4 are multiples of 2), `allows` leaves
such a variant out; `python_tasks._told_apart` finds an input that tells each two apart, or says that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from star_rft.data.generators.python_tasks.inputs import Kind

Telling = tuple[str, str]  # the function's name, and what it does: "returns ..."


@dataclass(frozen=True, slots=True)
class Family:
    """`body` is the reference solution below its `def` line, four spaces in; `level` 1 is one line, 3 needs a plan."""

    name: str
    level: int
    arguments: Mapping[str, Kind]
    params: Mapping[str, Sequence[Any]]
    tellings: tuple[Telling, ...]
    body: str
    allows: Callable[[Mapping[str, Any]], bool] = field(default=lambda params: True)


# Parameters that many families share.
SMALL, MIDDLE, LARGE = range(2, 10), range(2, 26), range(5, 29)
