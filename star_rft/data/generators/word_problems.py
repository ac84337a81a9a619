"""GSM8K-style word problems: a seeded generator of any number of them, with splits that are disjoint by construction.

    >>> next(generate(1, split="train")).question
    "Tom has 3 bags with 4 apples in each. He gives 5 apples to Mia. How many apples does he have in the end?"

A problem is a story about one quantity: an opening, operations, and a question. Its answer is written like GSM8K's: one
line a step with its equation, then `#### N`. The split is a hash of the equations, so no sequence of equations of
"train" occurs in "test", whatever the names and objects are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from star_rft.data.generators.word_topics import MEN, TOPICS, WOMEN, Conclusion, Topic

WordSplit = Literal["pretrain", "train", "dev", "test"]

MAX_STEPS = 8
# Buckets, of 256, of the hash of equations. "pretrain" is what the model `tiny` was pretrained on.
BUCKETS: dict[WordSplit, range] = {
    "pretrain": range(0, 128),
    "train": range(128, 192),
    "dev": range(192, 224),
    "test": range(224, 256),
}
# Every quantity is below 100, so that an integer can be one token. Operands are small, so that a model of a million
# parameters can learn the tables.
LIMIT = 100
OPERANDS = {"+": (2, 20), "-": (2, 20), "*": (2, 5), "/": (2, 5)}
OPENING = (5, 40)
GROUPS = (2, 6)
# Operations, each as often as it is tried; an impossible one (7 / 2, 60 * 3) is drawn again.
SINGLE = ("+", "+", "+", "-", "-", "-", "*", "*", "/", "/", "/")
MAX_TRIES = 100_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WordProblem:
    """`answer` is the worked chain of thought, then a line `#### N`; `steps` counts its equations."""

    question: str
    answer: str
    steps: int


@dataclass(frozen=True, slots=True)
class Move:
    """A sentence of the story with its numbers, its equations, and the line of the answer for each equation."""

    sentence: str
    a: int
    b: int
    equations: tuple[str, ...]
    lines: tuple[str, ...]
    value: int  # the running quantity afterwards


def generate(
    n: int, *, split: WordSplit, seed: int = 0, steps: tuple[int, int] = (1, MAX_STEPS)
) -> Iterator[WordProblem]:
    """Yield distinct problems.

    Args:
        n: How many. A larger `n` gives the same problems and more.
        split: The split.
        seed: The same arguments give the same problems.
        steps: Fewest and most equations of a problem; their number is uniform over this range, both ends included.

    Raises:
        ValueError: An argument is out of range, or there are not `n` distinct problems.
    """
    if split not in get_args(WordSplit):
        raise ValueError(f"split is {split!r}; valid are {', '.join(get_args(WordSplit))}")
    if n < 0:
        raise ValueError(f"n is {n}; it must be 0 or more")
    low, high = steps
    if not 1 <= low <= high <= MAX_STEPS:
        raise ValueError(f"steps is {steps}; it must be (lowest, highest) within 1..{MAX_STEPS}")
    return _generate(n, split=split, rng=random.Random(f"{split} {seed} {low} {high}"), low=low, high=high)


def _generate(n: int, *, split: WordSplit, rng: random.Random, low: int, high: int) -> Iterator[WordProblem]:
    seen: set[str] = set()
    while len(seen) < n:
        steps = rng.randint(low, high)
        for _ in range(MAX_TRIES):
            topic = _pick(rng, TOPICS)
            moves, ending = _draw_story(rng, topic, steps)
            if _split_of([equation for move in moves for equation in move.equations]) != split:
                continue
            problem = _tell(rng, topic, moves, ending)
            if problem.question not in seen:
                seen.add(problem.question)
                yield problem
                break
        else:
            raise ValueError(f"no new problem of {steps} steps found after {len(seen)}: ask for fewer")


def _split_of(equations: Sequence[str]) -> WordSplit:
    bucket = hashlib.blake2b("; ".join(equations).encode(), digest_size=1).digest()[0]
    return next(split for split, buckets in BUCKETS.items() if bucket in buckets)


def _draw_story(rng: random.Random, topic: Topic, steps: int) -> tuple[list[Move], Conclusion | None]:
    """Return an opening and moves with `steps` equations in all, and the ending if the last move is one."""
    moves = [_draw_opening(rng, topic, may_have_groups=steps >= 2)]
    left = steps - len(moves[0].equations)
    while left:
        if left == 1 and rng.random() < 0.35:
            ending = _pick(rng, topic.endings)
            last = _draw_single(rng, moves[-1].value, ending.operator, ending.sentence, ending.line)
            if last:
                return [*moves, last], ending
        move = _draw_move(rng, topic, moves[-1].value, may_have_groups=left >= 2)
        if move and move.sentence != moves[-1].sentence:
            moves.append(move)
            left -= len(move.equations)
    return moves, None


def _draw_opening(rng: random.Random, topic: Topic, *, may_have_groups: bool) -> Move:
    if may_have_groups and rng.random() < 0.3:
        sentence, line = _pick(rng, topic.group_openings)
        a, b = _draw(rng, GROUPS), _draw(rng, GROUPS)
        return Move(sentence, a, b, (f"{a} * {b} = {a * b}",), (line,), a * b)
    value = _draw(rng, OPENING)
    return Move(_pick(rng, topic.openings), value, 0, (), (), value)


def _draw_move(rng: random.Random, topic: Topic, value: int, *, may_have_groups: bool) -> Move | None:
    if may_have_groups and rng.random() < 0.25:
        kind = _pick(rng, ("+", "-"))
        sentence, line = _pick(rng, topic.add_groups if kind == "+" else topic.subtract_groups)
        return _draw_double(rng, value, kind, sentence, (line, _pick(rng, topic.lines)))
    kind = _pick(rng, SINGLE)
    sentences = {"+": topic.add, "-": topic.subtract, "*": topic.multiply, "/": topic.divide}[kind]
    return _draw_single(rng, value, kind, _pick(rng, sentences), _pick(rng, topic.lines))


def _draw_single(rng: random.Random, value: int, kind: str, sentence: str, line: str) -> Move | None:
    """Return a move of one equation, or None if the numbers drawn do not allow it."""
    a = _draw(rng, OPERANDS[kind]) if "{a}" in sentence else 2
    result = _apply(kind, value, a)
    if result is None:
        return None
    return Move(sentence, a, 0, (f"{value} {kind} {a} = {result}",), (line,), result)


def _draw_double(rng: random.Random, value: int, kind: str, sentence: str, lines: tuple[str, str]) -> Move | None:
    """Return a move of two equations, `a` groups of `b` and then the sum or difference, or None."""
    a, b = _draw(rng, GROUPS), _draw(rng, GROUPS)
    result = _apply(kind, value, a * b)
    if result is None:
        return None
    equations = (f"{a} * {b} = {a * b}", f"{value} {kind} {a * b} = {result}")
    return Move(sentence, a, b, equations, lines, result)


def _apply(kind: str, left: int, right: int) -> int | None:
    """Return the result if it is a whole number from 1 to 99."""
    if kind == "/":
        return left // right if left % right == 0 else None
    result = left + right if kind == "+" else left - right if kind == "-" else left * right
    return result if 1 <= result < LIMIT else None


def _tell(rng: random.Random, topic: Topic, moves: Sequence[Move], ending: Conclusion | None) -> WordProblem:
    """Return the problem of some moves, with people and things in its sentences."""
    is_woman = rng.random() < 0.5
    name = _pick(rng, WOMEN if is_woman else MEN)
    other = name
    while other == name:
        other = _pick(rng, WOMEN + MEN)
    she, her, possessive = ("she", "her", "her") if is_woman else ("he", "him", "his")
    people = {"name": name, "other": other, "She": she.capitalize(), "she": she, "her": her}
    people |= {"his": possessive, "His": possessive.capitalize(), "things": _pick(rng, topic.things)}
    question = ending.question if ending else _pick(rng, topic.questions)
    sentences = [move.sentence.format(a=move.a, b=move.b, **people) for move in moves]
    chain = [
        line.format(eq=equation, **people)
        for move in moves
        for equation, line in zip(move.equations, move.lines, strict=True)
    ]
    return WordProblem(
        question=" ".join([*sentences, question.format(**people)]),
        answer="\n".join([*chain, f"#### {moves[-1].value}"]),
        steps=len(chain),
    )


def _draw(rng: random.Random, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return low + int(rng.random() * (high - low + 1))


def _pick(rng: random.Random, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]
