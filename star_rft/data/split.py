"""Split of data into a part to train on and a held-out part, by a hash of the question."""

from __future__ import annotations

from collections.abc import Sequence

from star_rft.data.load import split_position
from star_rft.data.readers import DataError
from star_rft.types import Problem

SHARE, LEAST, MOST = 0.1, 20, 500  # of held-out problems


def wanted(problems: int, hold_out: float | None = None) -> int:
    """Return how many of some problems to hold out.

    Args:
        problems: How many there are.
        hold_out: A share below 1, or a number; None: a tenth, but 20 to 500, and at most half.

    Raises:
        DataError: Nothing would be left to train on, or to hold out.
    """
    if problems < 2:
        raise DataError(f"there is {problems} problem, and one to train on and one to hold out are needed")
    if hold_out is None:
        return max(1, min(max(round(SHARE * problems), LEAST), MOST, problems // 2))
    count = round(hold_out * problems) if hold_out < 1 else int(hold_out)
    if hold_out <= 0 or not 1 <= count < problems or (hold_out >= 1 and hold_out != count):
        raise DataError(
            f"--hold-out {hold_out:g} of {problems:,} problems leaves none on one side; give a share such as 0.1, or a "
            f"number from 1 to {problems - 1:,}"
        )
    return count


def boundary(problems: Sequence[Problem], count: int) -> float:
    """Return a number in [0, 1], with as few decimals as possible, above which the hashes of `count` problems are.

    Spelling variants of a question have one hash and stay on one side, so the number of problems may differ by them.

    Raises:
        DataError: All questions have one hash.
    """
    hashes = sorted(split_position(problem.prompt) for problem in problems)
    cuts = [i for i in range(1, len(hashes)) if hashes[i - 1] < hashes[i]]
    if not cuts:
        raise DataError("all prompts are the same up to case and punctuation, so none can be held out")
    at = min(cuts, key=lambda i: abs(len(hashes) - i - count))
    low, high = hashes[at - 1], hashes[at]
    digits = next(digits for digits in range(1, 17) if low < round((low + high) / 2, digits) <= high)
    return round((low + high) / 2, digits)
