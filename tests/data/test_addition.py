from __future__ import annotations

from collections import Counter

import pytest

import verifiers
from star_rft.data import load
from star_rft.data.addition import generate, worked
from star_rft.data.rows import DataError

THREE_DIGITS = """<scratch>
6 2 4 + 2 5 9 , C: 0
2 + 5 , 3 C: 1
6 + 2 , 8 3 C: 0
, 8 8 3 C: 0
0 8 8 3
</scratch>
#### 8 8 3"""


def test_a_scratchpad_is_worked_as_in_the_paper() -> None:
    assert worked(624, 259) == THREE_DIGITS
    assert worked(7, 8) == "<scratch>\n7 + 8 , C: 0\n, 5 C: 1\n1 5\n</scratch>\n#### 1 5"


def test_sums_are_distinct_even_over_digits_and_apart_between_splits() -> None:
    train, dev = (list(generate(500, split=split, seed=1)) for split in ("train", "dev"))
    assert len({item.question for item in train}) == 500
    assert not {item.question for item in train} & {item.question for item in dev}
    counts = Counter(item.digits for item in train)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert counts[3] == counts[4] == 100  # the one-digit sums run out, and more digits take their place
    assert list(generate(20, split="train", seed=1)) == train[:20]


def test_the_gold_solution_is_correct() -> None:
    problems = load("addition", verifier="exact", split="dev", options={"n": 40, "digits": [1, 5]})
    pairs = [(problem.solution or "", problem.reference) for problem in problems]
    assert all(verdict.is_correct for verdict in verifiers.verify_many("exact", pairs, workers=1))
    assert {problem.meta["digits"] for problem in problems} <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits": [0, 3]}, "digits is"),
        ({"digits": [1, 1], "n": 80}, "distinct sums of 1 to 1 digits"),
        ({"steps": [1, 2]}, "no option 'steps'"),
    ],
)
def test_what_cannot_be_added_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("addition", verifier="exact", split="train", options=options)
