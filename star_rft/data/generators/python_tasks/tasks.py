"""Small programming tasks with unit tests: a seeded generator with disjoint splits by construction.

    >>> print(next(generate(1, split="test")).prompt)
    Write a Python function `is_longer(text)` that returns True if `text` has more than 14 characters, and ...
    For example, `is_longer('dllzrl mrmt sobtbal')` returns `True`.

A task is a family (`python_task_families/`) with its parameters filled in. Its split is a hash of the two, so the
same function never stands in two splits, whatever the seed; the seed orders the tasks, and chooses their wording and
the inputs of their tests. The families themselves stand in every split: that a model generalises to kinds of function
that it was not trained on, other data must show.

The asserts are what the family's own solution returned, at the borders of the input and at random inputs; the example
that the task shows is none of them.
"""

from __future__ import annotations

import ast
import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from star_rft.data.generators.python_tasks.families import FAMILIES, Family
from star_rft.data.generators.python_tasks.inputs import Mark, drawn, edges
from star_rft.types import digest

TaskSplit = Literal["train", "dev", "test"]
# Of 16 buckets of functions.
BUCKETS: dict[TaskSplit, range] = {"train": range(0, 9), "dev": range(9, 13), "test": range(13, 16)}
# A family with many parameters is no more worth than one with few.
VARIANTS_AT_MOST = 28
ASSERTS, BESIDE_BORDERS = 12, 4
# How many inputs are drawn to choose from, and to find one that tells two functions apart.
POOL, TELLING = 60, 2_000
EXAMPLE_CHARS = 90

Case = tuple[tuple[Any, ...], Any]  # the arguments, and what the function returns for them


@dataclass(frozen=True, slots=True)
class PythonTask:
    """`tests` are asserts that call `name`; `program` is a right one; `id` names the function and no split or seed."""

    id: str
    family: str
    level: int
    name: str
    prompt: str
    program: str
    tests: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A family with its parameters filled in: one function."""

    family: Family
    params: Mapping[str, Any]

    @property
    def id(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.family.name}({given})"

    @property
    def split(self) -> TaskSplit:
        bucket = int(digest("python_tasks", self.id), 16) % 16
        return next(split for split, buckets in BUCKETS.items() if bucket in buckets)

    @property
    def marks(self) -> list[Mark]:
        return list(self.params.values())

    def program(self, name: str) -> str:
        return f"def {name}({', '.join(self.family.arguments)}):\n    {self.family.body.format(**self.params)}\n"


def generate(n: int | None, *, split: TaskSplit, seed: int = 0) -> Iterator[PythonTask]:
    """Yield `n` distinct tasks, all that there are if it is None, families in turn.

    The same arguments give the same tasks, and a larger `n` only adds to them. Raises ValueError if an argument is out
    of range, or if there are not `n` tasks in the split.
    """
    if split not in get_args(TaskSplit):
        raise ValueError(f"split is {split!r}; valid are {', '.join(get_args(TaskSplit))}")
    chosen = _ordered([variant for variant in variants().values() if variant.split == split], seed)
    if n is not None and not (isinstance(n, int) and 0 <= n <= len(chosen)):
        raise ValueError(f"n is {n!r}; {split} has {len(chosen)} distinct tasks: it must be a whole number up to that")
    return (_told(variant, seed) for variant in chosen[:n])


@functools.cache
def variants() -> Mapping[str, Variant]:
    """Return every function that there is, by its id."""
    found = [variant for family in FAMILIES for variant in _variants_of(family)]
    return {variant.id: variant for variant in found}


def _variants_of(family: Family) -> list[Variant]:
    filled = (dict(zip(family.params, values, strict=True)) for values in itertools.product(*family.params.values()))
    found = [Variant(family, params) for params in filled if family.allows(params)]
    return sorted(found, key=lambda variant: digest(variant.id))[:VARIANTS_AT_MOST]


def _ordered(chosen: Sequence[Variant], seed: int) -> list[Variant]:
    """One of each family, then another of each: any first part of the list is a mixture."""
    shuffled = sorted(chosen, key=lambda variant: digest("python_tasks", seed, variant.id))
    turn: Counter[str] = Counter()
    turns = {}
    for variant in shuffled:
        turns[variant.id] = turn[variant.family.name]
        turn[variant.family.name] += 1
    return sorted(shuffled, key=lambda variant: turns[variant.id])


def _told(variant: Variant, seed: int) -> PythonTask:
    rng = random.Random(f"python_tasks {seed} {variant.id}")
    name, does = rng.choice(variant.family.tellings)
    program = variant.program(name)
    tested = _cases(variant, rng)
    shown, returned = _example(variant, rng, {repr(arguments) for arguments, _ in tested})
    prompt = (
        f"Write a Python function `{name}({', '.join(variant.family.arguments)})` that "
        f"{does.format(**variant.params)}.\nFor example, `{_call(name, shown)}` returns `{returned!r}`."
    )
    tests = "".join(f"assert {_call(name, arguments)} == {expected!r}\n" for arguments, expected in tested)
    return PythonTask(variant.id, variant.family.name, variant.family.level, name, prompt, program, tests)


def fresh_cases(task_id: str, *, seed: int, n: int, without: Sequence[Case] = ()) -> list[Case]:
    """Return `n` cases or more of the function with this id, none with the arguments of a case of `without`.

    Raises KeyError for an id that no task has.
    """
    rng = random.Random(f"fresh {seed} {task_id}")
    return list(_balanced(variants()[task_id], rng, n, {repr(arguments) for arguments, _ in without}).values())


def cases_of(tests: str) -> list[Case]:
    """Return the cases that the asserts of `generate` were written from."""
    compared = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Compare)]
    return [
        (tuple(ast.literal_eval(argument) for argument in node.left.args), ast.literal_eval(node.comparators[0]))
        for node in compared
        if isinstance(node.left, ast.Call)
    ]


def _cases(variant: Variant, rng: random.Random) -> list[Case]:
    """Return what a task is tested with: balanced cases, and those that tell it from every other function.

    Another function is any of the same arguments: multiples of 8 pass many tests of multiples of 24.
    """
    found = _balanced(variant, rng, ASSERTS, ())
    for rival in _rivals(variant):
        if all(_agrees(rival, case) for case in found.values()):
            case = _told_apart(variant, rival, rng, found)
            found[repr(case[0])] = case
    return list(found.values())


def _balanced(variant: Variant, rng: random.Random, n: int, without: Collection[str]) -> dict[str, Case]:
    """Return `n` cases or more by the `repr` of their arguments: all borders, then others chosen out of many.

    They are chosen so that no answer is given more often than it must be: a program that returns a constant fails,
    and so does one that knows one branch only.
    """
    found = _distinct(_answered(variant, _border_arguments(variant, rng)), without)
    pool = _distinct(_answered(variant, _drawn_arguments(variant, rng, POOL)), {*found, *without})
    left, given = list(pool.values()), Counter(repr(expected) for _, expected in found.values())
    wanted = max(n, len(found) + BESIDE_BORDERS)
    while left and len(found) < wanted:
        case = min(left, key=lambda case: given[repr(case[1])])
        left.remove(case)
        found[repr(case[0])] = case
        given[repr(case[1])] += 1
    return found


def _told_apart(variant: Variant, rival: Variant, rng: random.Random, without: Collection[str]) -> Case:
    """Return a case on which two functions differ: one is found close to the parameters of both."""
    arguments = _drawn_arguments(variant, rng, TELLING, [*variant.marks, *rival.marks])
    found = _distinct(_answered(variant, arguments), without).values()
    case = next((case for case in found if not _agrees(rival, case)), None)
    if case is None:
        raise ValueError(f"no input tells {variant.id} from {rival.id}")
    return case


def _distinct(answered: Sequence[Case], without: Collection[str]) -> dict[str, Case]:
    return {key: case for case in answered if (key := repr(case[0])) not in without}


def _rivals(variant: Variant) -> list[Variant]:
    kinds = list(variant.family.arguments.values())
    others = (other for other in variants().values() if list(other.family.arguments.values()) == kinds)
    return [other for other in others if other.id != variant.id]


def _agrees(rival: Variant, case: Case) -> bool:
    arguments, expected = case
    return bool(solution_of(rival)(*arguments) == expected)


def _example(variant: Variant, rng: random.Random, tested: Collection[str]) -> Case:
    """Return a short case whose answer says something, and which no test asks for."""
    possible = _distinct(_answered(variant, _drawn_arguments(variant, rng, POOL)), tested).values()
    short = [case for case in possible if len(repr(case)) <= EXAMPLE_CHARS]
    telling = [case for case in short if case[1] and case[1] not in case[0]]
    longer = [case for case in telling if not isinstance(case[1], list) or len(case[1]) > 1]
    return [*longer, *telling, *short][0]


def _border_arguments(variant: Variant, rng: random.Random) -> Iterator[tuple[Any, ...]]:
    kinds = variant.family.arguments.values()
    columns = [edges(kind, variant.marks) for kind in kinds]
    for column in columns[1:]:
        rng.shuffle(column)
    for row in range(max(map(len, columns))):
        yield tuple(
            column[row] if row < len(column) else drawn(kind, variant.marks, rng)
            for column, kind in zip(columns, kinds, strict=True)
        )


def _drawn_arguments(
    variant: Variant, rng: random.Random, n: int, marks: Sequence[Mark] = ()
) -> Iterator[tuple[Any, ...]]:
    for _ in range(n):
        yield tuple(drawn(kind, marks or variant.marks, rng) for kind in variant.family.arguments.values())


def _answered(variant: Variant, arguments: Iterator[tuple[Any, ...]]) -> list[Case]:
    solve = solution_of(variant)
    return [(given, solve(*given)) for given in arguments]


@functools.cache
def _compiled(program: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(program, names)  # the family's own source, above
    solve: Callable[..., Any] = names["solve"]
    return solve


def solution_of(variant: Variant) -> Callable[..., Any]:
    return _compiled(variant.program("solve"))


def _call(name: str, arguments: tuple[Any, ...]) -> str:
    return f"{name}({', '.join(map(repr, arguments))})"
