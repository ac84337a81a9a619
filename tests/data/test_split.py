"""How many problems are held out, and which."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_rft.data import DataError, load
from star_rft.data.split import boundary, wanted
from star_rft.types import Problem


def problems(n: int, *, word: str = "is") -> list[Problem]:
    return [Problem(f"{i}", f"What {word} {i} + {i}?", f"{2 * i}", "math") for i in range(n)]


@pytest.mark.parametrize(
    ("total", "held_out"),
    [(2, 1), (3, 1), (10, 5), (39, 19), (40, 20), (150, 20), (200, 20), (1_000, 100), (9_999, 500)],
)
def test_a_tenth_at_least_20_at_most_500_and_at_most_half(total: int, held_out: int) -> None:
    assert wanted(total) == held_out


@pytest.mark.parametrize(("asked", "held_out"), [(0.25, 25), (40, 40), (0.01, 1), (99, 99)])
def test_a_share_or_a_number_can_be_asked_for(asked: float, held_out: int) -> None:
    assert wanted(100, asked) == held_out


@pytest.mark.parametrize("asked", [0, -1, 100, 1000, 2.5, 0.001])
def test_neither_side_may_be_empty(asked: float) -> None:
    with pytest.raises(DataError, match=r"give a share such as 0\.1, or a number from 1 to 99"):
        wanted(100, asked)


def test_one_problem_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one to train on and one to hold out"):
        wanted(1)
    with pytest.raises(DataError, match="none can be held out"):
        boundary([Problem("a", "Why?", "1", "math"), Problem("b", "why", "2", "math")], 1)


@settings(max_examples=40)
@given(total=st.integers(2, 120), data=st.data())
def test_the_cut_holds_out_as_many_as_wanted_and_loses_none(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total - 1))
    found = problems(total, word=data.draw(st.sampled_from(["is", "was", "makes"])))
    cut = boundary(found, count)
    assert 0 < cut < 1
    rows = [{"question": p.prompt, "answer": p.reference} for p in found]
    train, dev = (load(rows, verifier="math", share=share) for share in ((0.0, cut), (cut, 1.0)))
    assert len(dev) == count
    assert len(train) + len(dev) == total


def test_the_cut_does_not_depend_on_the_order_and_is_short() -> None:
    found = problems(500)
    assert boundary(found, 50) == boundary(found[::-1], 50)
    assert len(str(boundary(found, 50))) <= 7


def test_spellings_of_one_prompt_stay_together() -> None:
    found = [Problem(f"{i}{style}", f"What is {i}{style}", "1", "math") for i in range(20) for style in ("", "?")]
    cut = boundary(found, 7)
    rows = [{"question": problem.prompt, "answer": problem.id} for problem in found]
    dev = {problem.prompt for problem in load(rows, verifier="exact", share=(cut, 1.0))}
    assert all((prompt + "?" in dev) or (prompt.removesuffix("?") in dev) for prompt in dev)
    assert len(dev) in (6, 8)
