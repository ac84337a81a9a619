from __future__ import annotations

import time

import pytest

from star_rft.ledger.keys import equations, keys_of, program_key
from verifiers.prose.equations import find_equations


def equations_of(text: str) -> list[str]:
    return equations(list(find_equations(text)))


def equation_key(text: str) -> str:
    return keys_of(text, "math").equations


def text_key(text: str) -> str:
    return keys_of(text, "math").text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("48/2 = <<48/2=24>>24 clips. <<48+24=72>>", ["48/2=24", "48+24=72"]),
        ("She has 12 + 7 = 19 apples and 19 * 2 = 38 pears.", ["12+7=19", "19*2=38"]),
        ("That is 3 x 4 = 12 and $1,200 ÷ 4 = $300.", ["3*4=12", "1200/4=300"]),
        (r"So 3 \times 4 = 12.", ["3*4=12"]),
        (r"Each gets $\frac{48}{2} = 24$ clips.", ["48/2=24"]),
        ("There is nothing to compute here.", []),
    ],
)
def test_equations_are_found_without_their_spaces(text: str, found: list[str]) -> None:
    assert equations_of(text) == found


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
    keys_of(text, "math")
    assert time.perf_counter() - began < 1.0


def test_false_equations_are_counted_with_the_keys() -> None:
    assert keys_of("2 + 2 = 5, so 5 + 1 = 6", "math").invalid_steps == 1
    assert keys_of("<<2+2=4>> 4 + 1 = 5", "math").invalid_steps == 0


SUM = "def total(xs):\n    result = 0\n    for x in xs:\n        result += x\n    return result\n"


def test_a_program_is_known_by_what_it_does_not_by_its_names() -> None:
    renamed = SUM.replace("result", "acc").replace("xs", "items")
    documented = SUM.replace("    result = 0", '    """Add up."""\n    result = 0  # so far')
    typed = SUM.replace("(xs)", "(xs: list[int]) -> int")
    assert program_key(SUM) == program_key(renamed) == program_key(documented) == program_key(typed)
    assert program_key(f"Here you are:\n```python\n{SUM}```\nThat is all.") == program_key(SUM)


@pytest.mark.parametrize(
    "other",
    [
        SUM.replace("+=", "-="),
        SUM.replace("result = 0", "result = 1"),
        SUM.replace("return result", "return xs"),
        "import math\n" + SUM,
        "def total(xs):\n    return sum(xs)\n",
        "def total(xs):\n    return max(xs)\n",
    ],
)
def test_programs_that_differ_have_different_keys(other: str) -> None:
    assert program_key(other) is not None
    assert program_key(other) != program_key(SUM)


def test_what_is_no_program_falls_back_to_its_text() -> None:
    keys = keys_of("I do not know.", "code")
    assert keys.program == keys.text != keys_of("I really do not know.", "code").program
