from __future__ import annotations

import time

import pytest

from star_rft.select.keys import equation_key, equations, text_key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("48/2 = <<48/2=24>>24 clips. <<48+24=72>>", ["48/2=24", "48+24=72"]),
        ("She has 12 + 7 = 19 apples and 19 * 2 = 38 pears.", ["12+7=19", "19*2=38"]),
        ("That is 3 x 4 = 12 and $1,200 ÷ 4 = $300.", ["3*4=12", "1200/4=300"]),
        (r"So 3 \times 4 = 12.", ["3*4=12"]),
        ("There is nothing to compute here.", []),
    ],
)
def test_equations_are_found_without_their_spaces(text: str, found: list[str]) -> None:
    assert equations(text) == found


def test_the_order_of_equations_counts() -> None:
    assert equation_key("1 + 2 = 3, 3 + 4 = 7") != equation_key("3 + 4 = 7, 1 + 2 = 3")


def test_traces_without_equations_do_not_share_a_key() -> None:
    """An empty shared key threw all but one of them away (gsm8k-ScRel)."""
    assert equation_key("It is five.") != equation_key("I think it is six.")
    assert equation_key("It is five.") == equation_key("It is  FIVE.\n")


def test_wording_differs_in_text_but_not_in_equations() -> None:
    a, b = "He has 1 + 2 = 3 cats.", "So 1 + 2 = 3."
    assert equation_key(a) == equation_key(b)
    assert text_key(a) != text_key(b)


@pytest.mark.parametrize("text", ["1" * 8000, "1 + " * 4000, "<<" * 8000, "1,1" * 8000, "( 1 ) " * 3000])
def test_keys_are_quick_on_hostile_text(text: str) -> None:
    began = time.perf_counter()
    equations(text)
    assert time.perf_counter() - began < 1.0
