"""STaR's arithmetic (arXiv 2203.14465, section 4.1): sums of two numbers of n digits, worked out on a scratchpad.

The scratchpad goes from the last digits to the first: each line has the next two digits, the digits of the sum so far,
and the carry. Before the answer it has `#### `, which the paper's has not.

    >>> print(worked(29, 57))
    <scratch>
    2 9 + 5 7 , C: 0
    2 + 5 , 6 C: 1
    , 8 6 C: 0
    0 8 6
    </scratch>
    #### 8 6
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from star_rft.types import digest

AdditionSplit = Literal["train", "dev", "test"]
# Buckets, of 16, of the hash of a pair of numbers: few, so that a small set of sums has some of each split.
BUCKETS: dict[AdditionSplit, range] = {"train": range(0, 12), "dev": range(12, 14), "test": range(14, 16)}
MAX_DIGITS = 12
TRIES = 2_000  # to draw a new pair of a split, before sums of more digits are taken


@dataclass(frozen=True, slots=True)
class Sum:
    """A problem; `answer` is the scratchpad, if there is one, then a line `#### N` with spaces between the digits."""

    question: str
    answer: str
    digits: int


def generate(
    n: int | Sequence[int],
    *,
    split: AdditionSplit,
    seed: int = 0,
    digits: tuple[int, int] = (1, 5),
    hinted: float = 0.0,
    scratchpad: bool = True,
) -> Iterator[Sum]:
    """Yield distinct sums.

    Where the split has no more sums of few digits (there are 81 of one digit in all splits), sums of more digits take
    their place.

    Args:
        n: How many, evenly over the numbers of digits; or a list of how many of each number of digits.
        split: The split.
        seed: The same arguments give the same sums.
        digits: Fewest and most digits, both included.
        hinted: Share of questions that show the answer, as a hint does.
        scratchpad: Whether answers have the scratchpad.

    Raises:
        ValueError: An argument is out of range, or there are not `n` distinct sums.
    """
    low, high = digits
    if not 1 <= low <= high <= MAX_DIGITS:
        raise ValueError(f"digits is {digits}; it must be (fewest, most) within 1..{MAX_DIGITS}")
    if not 0 <= hinted <= 1:
        raise ValueError(f"hinted is {hinted}; it must be a share, 0 to 1")
    rng, hints = random.Random(f"{split} {seed} {low} {high}"), random.Random(f"hinted {split} {seed}")
    seen: set[tuple[int, int]] = set()
    used_up: set[int] = set()
    for index, wanted in enumerate(_digits(n, low, high)):
        pair = None
        for count in (c for c in range(wanted, high + 1) if c not in used_up):
            if (pair := _new_pair(rng, split, seen, count)) is not None:
                break
            used_up.add(count)
        if pair is None:
            raise ValueError(
                f"there are only {index} distinct sums of {low} to {high} digits in {split}: ask for fewer"
            )
        seen.add(pair)
        a, b = pair
        asked = question(a, b, is_hinted=hints.random() < hinted)
        yield Sum(asked, worked(a, b) if scratchpad else f"#### {spaced(a + b)}", len(str(a)))


def _digits(n: int | Sequence[int], low: int, high: int) -> list[int]:
    """Return the number of digits of each sum."""
    if isinstance(n, int):
        if n < 0:
            raise ValueError(f"n is {n}; it must be 0 or more")
        return [low + index % (high - low + 1) for index in range(n)]
    if len(n) != high - low + 1 or min(n) < 0:
        raise ValueError(f"n is {list(n)}; it must be a number, or one for each of {low} to {high} digits")
    return [count for count, number in zip(range(low, high + 1), n, strict=True) for _ in range(number)]


def _new_pair(
    rng: random.Random, split: AdditionSplit, seen: set[tuple[int, int]], digits: int
) -> tuple[int, int] | None:
    low, high = 10 ** (digits - 1), 10**digits
    for _ in range(TRIES):
        pair = rng.randrange(low, high), rng.randrange(low, high)
        if pair not in seen and _bucket(*pair) in BUCKETS[split]:
            return pair
    return None


def _bucket(a: int, b: int) -> int:
    return int(digest("addition", a, b), 16) % 16


def spaced(number: int) -> str:
    """Return a number with spaces between its digits, so that each digit is a token of its own."""
    return " ".join(str(number))


def question(a: int, b: int, *, is_hinted: bool = False) -> str:
    """Return the question for a + b; with a hint it shows the sum."""
    return f"Input:\n{spaced(a)} + {spaced(b)}\nTarget:" + (f" {spaced(a + b)}" if is_hinted else "")


def worked(a: int, b: int) -> str:
    """Return the scratchpad of a + b and the answer; both numbers must have the same number of digits."""
    lines, carry, result = [f"{spaced(a)} + {spaced(b)} , C: 0"], 0, ""
    first, second = str(a), str(b)
    for place in reversed(range(len(first))):
        total = int(first[place]) + int(second[place]) + carry
        carry, result = total // 10, f"{total % 10} {result}"
        left = f"{first[place - 1]} + {second[place - 1]} " if place else ""
        lines.append(f"{left}, {result}C: {carry}")
    lines.append(f"{carry} {result}".strip())
    return "\n".join(["<scratch>", *lines, "</scratch>", f"#### {spaced(a + b)}"])
