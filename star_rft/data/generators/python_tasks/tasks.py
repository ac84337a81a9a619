"""Small programming tasks with unit tests: a seeded generator with splits that are disjoint by construction.

    >>> print(next(generate(1, split="test")).prompt)
    Write a Python function `is_longer(text)` that returns True if `text` has more than 14 characters, and ...
    For example, `is_longer('dllzrl mrmt sobtbal')` returns `True`.

A task is a family (`families.py`) with its parameters filled in. Its split is a hash of the two, so a function is in
one split only, whatever the seed. The seed orders the tasks, and chooses their wording and the inputs of their tests.
The families are in every split, so a held-out score does not show generalisation to other kinds of functions.

The expected values of the asserts are what the family's solution returns, for inputs at the borders and random ones.
The example in the prompt is none of them.
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
# Buckets, of 16, of the hash of a function.
BUCKETS: dict[TaskSplit, range] = {"train": range(0, 9), "dev": range(9, 13), "test": range(13, 16)}
# So that families with many parameters do not make up most of the tasks.
VARIANTS_AT_MOST = 28
ASSERTS, BESIDE_BORDERS = 12, 4  # fewest asserts of a task, and fewest that are no border
# Inputs that are drawn to choose asserts from, and to find one for which two functions differ.
POOL, TELLING = 60, 2_000
EXAMPLE_CHARS = 90  # most characters of the example in a prompt, if there is one so short

Case = tuple[tuple[Any, ...], Any]  # the arguments, and what the function returns for them


@dataclass(frozen=True, slots=True)
class PythonTask:
    """A task.

    Attributes:
        id: The family and its parameters; the same for every seed.
        family: Name of the family.
        level: Difficulty, 1 to 3.
        name: The function that is to be written.
        prompt: The task in words, with an example.
        program: A correct program.
        tests: Asserts that call the function, one a line.
    """

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
        """Return a name that is unique among all functions."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.family.name}({given})"

    @property
    def split(self) -> TaskSplit:
        """Return the split that the function belongs to."""
        bucket = int(digest("python_tasks", self.id), 16) % 16
        return next(split for split, buckets in BUCKETS.items() if bucket in buckets)

    @property
    def marks(self) -> list[Mark]:
        """Return the parameters, close to which inputs are drawn (`inputs`)."""
        return list(self.params.values())

    def program(self, name: str) -> str:
        """Return the source of the function under a name."""
        return f"def {name}({', '.join(self.family.arguments)}):\n    {self.family.body.format(**self.params)}\n"


def generate(n: int | None, *, split: TaskSplit, seed: int = 0) -> Iterator[PythonTask]:
    """Return distinct tasks, one of each family, then another of each, and so on.

    Args:
        n: How many; None: all of the split. A larger `n` gives the same tasks and more.
        split: The split.
        seed: The same arguments give the same tasks.

    Raises:
        ValueError: An argument is out of range, or the split has fewer tasks.
    """
    if split not in get_args(TaskSplit):
        raise ValueError(f"split is {split!r}; valid are {', '.join(get_args(TaskSplit))}")
    chosen = _ordered([variant for variant in variants().values() if variant.split == split], seed)
    if n is not None and not (isinstance(n, int) and 0 <= n <= len(chosen)):
        raise ValueError(f"n is {n!r}; {split} has {len(chosen)} distinct tasks: it must be a whole number up to that")
    return (_told(variant, seed) for variant in chosen[:n])


@functools.cache
def variants() -> Mapping[str, Variant]:
    """Return the functions of all families and splits, by their ids."""
    found = [variant for family in FAMILIES for variant in _variants_of(family)]
    return {variant.id: variant for variant in found}


def _variants_of(family: Family) -> list[Variant]:
    filled = (dict(zip(family.params, values, strict=True)) for values in itertools.product(*family.params.values()))
    found = [Variant(family, params) for params in filled if family.allows(params)]
    return sorted(found, key=lambda variant: digest(variant.id))[:VARIANTS_AT_MOST]


def _ordered(chosen: Sequence[Variant], seed: int) -> list[Variant]:
    """Return functions in the order of `generate`: one of each family, then another of each."""
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
    """Return `n` or more cases of a function with other arguments than those of `without`; KeyError for no such id."""
    rng = random.Random(f"fresh {seed} {task_id}")
    return list(_balanced(variants()[task_id], rng, n, {repr(arguments) for arguments, _ in without}).values())


def cases_of(tests: str) -> list[Case]:
    """Return the cases of a task's asserts, `PythonTask.tests`."""
    compared = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Compare)]
    return [
        (tuple(ast.literal_eval(argument) for argument in node.left.args), ast.literal_eval(node.comparators[0]))
        for node in compared
        if isinstance(node.left, ast.Call)
    ]


def _cases(variant: Variant, rng: random.Random) -> list[Case]:
    """Return the cases of a task's asserts.

    For each other function with the same kinds of arguments, one of them differs: without such a case "multiples of 8"
    would pass many tests of "multiples of 24".
    """
    found = _balanced(variant, rng, ASSERTS, ())
    for rival in _rivals(variant):
        if all(_agrees(rival, case) for case in found.values()):
            case = _told_apart(variant, rival, rng, found)
            found[repr(case[0])] = case
    return list(found.values())


def _balanced(variant: Variant, rng: random.Random, n: int, without: Collection[str]) -> dict[str, Case]:
    """Return `n` or more cases by the `repr` of their arguments: all borders, and cases chosen from `POOL` random ones.

    Each is chosen for the result that the cases so far have least often. So a program that returns a constant, or has
    one branch only, fails.
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
    """Return a case for which two functions differ, from inputs close to the parameters of both."""
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
    """Return a case for the prompt that no assert has: a short one whose result is not empty or part of the input."""
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
    exec(program, names)  # source of this package
    solve: Callable[..., Any] = names["solve"]
    return solve


def solution_of(variant: Variant) -> Callable[..., Any]:
    """Return the function itself."""
    return _compiled(variant.program("solve"))


def _call(name: str, arguments: tuple[Any, ...]) -> str:
    return f"{name}({', '.join(map(repr, arguments))})"
