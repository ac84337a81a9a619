"""Inputs for the built-in programming tasks: border cases of each kind of argument, and random ones.

`marks` are the parameters of the function under test. Many inputs are close to them: only a 5 distinguishes "greater
than 5" from "at least 5", and only a text with both letters distinguishes counting "a" from counting "e".
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

Kind = Literal["number", "natural", "positive", "numbers", "text", "words", "scores", "name"]
Mark = int | str

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
ALPHABET = "aeiorstnlaeiorstnlbcdmpz"
LONGEST = 32


def edges(kind: Kind, marks: Sequence[Mark]) -> list[Any]:
    """Return border cases: empty inputs, values and lengths equal to each mark, and values and lengths next to it."""
    numbers, letters = _numbers(marks), _letters(marks)
    around: list[Any]
    spelled: list[Any]
    lengths: list[Any]
    match kind:
        case "number" | "natural" | "positive":
            around = [value for m in numbers for value in (m, m - 1, m + 1, 2 * m, m * m, -m)]
            lowest = {"number": -1000, "natural": 0, "positive": 1}[kind]
            return _distinct(value for value in [*around, _product(numbers), 0, 1] if value >= lowest)
        case "numbers":
            around = [[m - 1, m, m + 1, m, 2 * m] for m in numbers]
            lengths = [list(range(length)) for m in numbers for length in (m - 1, m + 1) if 1 <= length <= 12]
            return _distinct([[], *around, list(numbers), *lengths, [0, -3, 0, 7, -3]])
        case "text":
            spelled = [f"{c}n {c}{c}pe{c}" for c in letters]
            lengths = [("stone bird on a red hill in may" + "x" * m)[: m + d] for m in numbers for d in (-1, 0, 1)]
            return _distinct(["", *spelled, "".join(letters), *[text for text in lengths if len(text) <= LONGEST]])
        case "words":
            spelled = [[f"{c}pt", f"p{c}t", c, "mud", f"pe{c}", f"{c}pt"] for c in letters]
            lengths = [["stonebirds"[:length] for length in (m, m + 1, max(0, m - 1), m + 1)] for m in numbers]
            return _distinct([[], *spelled, *lengths, ["mud"]])
        case "scores":
            around = [{"Ann": m, "Bob": m - 1, "Cleo": m + 1, "Dan": m + 1} for m in numbers]
            return _distinct([{}, *around, {"Eva": 0, "Finn": -4}])
        case "name":
            return ["Zoe", "Ann"]


def drawn(kind: Kind, marks: Sequence[Mark], rng: random.Random) -> Any:
    """Return a random input of the kind, often close to a mark."""
    numbers, letters = _numbers(marks), _letters(marks)
    match kind:
        case "number":
            return _number(rng, numbers, low=-25, high=60)
        case "natural":
            return abs(_number(rng, numbers, low=0, high=120 if rng.random() < 0.9 else 99_999))
        case "positive":
            return max(1, abs(_number(rng, numbers, low=1, high=60)) * rng.choice([*numbers, 1]) ** rng.randint(0, 3))
        case "numbers":
            return [_number(rng, numbers, low=-9, high=30) for _ in range(rng.randint(2, 9))]
        case "text":
            return " ".join(_word(rng, letters) for _ in range(rng.randint(1, 5)))[:LONGEST]
        case "words":
            return [_word(rng, letters) for _ in range(rng.randint(2, 6))]
        case "scores":
            return {name: _number(rng, numbers, low=-5, high=35) for name in rng.sample(NAMES, rng.randint(2, 5))}
        case "name":
            return rng.choice(NAMES)


def _numbers(marks: Sequence[Mark]) -> list[int]:
    return [mark for mark in marks if isinstance(mark, int)]


def _letters(marks: Sequence[Mark]) -> list[str]:
    return [mark for mark in marks if isinstance(mark, str) and len(mark) == 1 and mark.isalpha()]


def _number(rng: random.Random, marks: Sequence[int], *, low: int, high: int) -> int:
    if marks and rng.random() < 0.4:
        return rng.choice(marks) * rng.randint(1, 3) + rng.choice((-1, 0, 0, 0, 1))
    return rng.randint(low, high)


def _word(rng: random.Random, letters: Sequence[str]) -> str:
    return "".join(
        rng.choice(letters) if letters and rng.random() < 0.2 else rng.choice(ALPHABET)
        for _ in range(rng.randint(1, 9))
    )


def _product(numbers: Sequence[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def _distinct(values: Any) -> list[Any]:
    """Return the values without repetition, compared by `repr`, as lists cannot be hashed."""
    return list({repr(value): value for value in values}.values())
