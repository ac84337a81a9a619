"""The verifier `numeric`: one number, compared exactly or within a tolerance."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from verifiers.extraction.answer import FALLBACKS, extract, reference_answer
from verifiers.math.latex import clean
from verifiers.math.numbers import Numeral, parse_numeral, same_number
from verifiers.math.units import same_unit
from verifiers.registry import Check, UnknownOption, register
from verifiers.types import Verdict


@functools.lru_cache(maxsize=65_536)
def _read_reference(reference: str) -> Numeral | None:
    """Return the number that a reference states, which may be a whole solution that ends in `#### 18`."""
    return _read_number(reference_answer(reference))


def _read_number(text: str) -> Numeral | None:
    """Return the number of a text, or the one after its last equals sign, as in `x = 5` or `2 + 3 = 5`."""
    cleaned = clean(text)
    return parse_numeral(cleaned) or parse_numeral(cleaned.rpartition("=")[2].strip())


def _reference_problem(reference: Any) -> str | None:
    if isinstance(reference, bool) or not isinstance(reference, (str, int, float)):
        return f"a reference must be text or a number, not {type(reference).__name__}"
    return None if _read_reference(str(reference)) else f"no number found in {str(reference)!r:.80}"


def _check_values(check: Check, given: Mapping[str, Any]) -> Check:
    """Return the check unchanged; raise UnknownOption for an invalid tolerance or fallback."""
    for option in ("rel_tol", "abs_tol"):
        if not 0 <= given.get(option, 0.0) < float("inf"):
            raise UnknownOption(f"option {option!r} must be a number from 0 up, not {given[option]!r}")
    if (fallback := given.get("fallback", FALLBACKS[0])) not in FALLBACKS:
        raise UnknownOption(f"option 'fallback' must be one of {', '.join(FALLBACKS)}, not {fallback!r}")
    return check


@register(
    "numeric",
    version="2",
    example=("She sells 9 eggs at $2 each.\n#### $18.00", "18"),
    reference_problem=_reference_problem,
    bind=_check_values,
)
def numeric(
    completion: str,
    reference: str | int | float,
    *,
    rel_tol: float = 0.0,
    abs_tol: float = 0.0,
    fallback: str = "sentence",
) -> Verdict:
    """The final answer is the reference's number, exactly or within `rel_tol` or `abs_tol`.

    `rel_tol`: allowed difference as a share of the reference (for a reference of 0 that is nothing).
    `abs_tol`: allowed difference.
    `fallback`: what counts as the answer of a completion without a marker: none, sentence or last_number.
    """
    if _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    expected = _read_reference(str(reference))
    assert expected is not None
    found = extract(completion, fallback=fallback)  # type: ignore[arg-type]
    if found.answer is None:
        return Verdict.incorrect(found.reason or "no_answer")
    number = _read_number(found.answer)
    if number is None:
        return Verdict.incorrect("no_answer", found.answer)
    same = same_number(expected, number) or _within(expected, number, rel_tol, abs_tol)
    return Verdict.correct(found.answer) if same else Verdict.incorrect("mismatch", found.answer)


def _within(expected: Numeral, number: Numeral, rel_tol: float, abs_tol: float) -> bool:
    if not (rel_tol or abs_tol) or not same_unit(expected.unit, number.unit, "optional"):
        return False
    allowed = max(abs(expected.value) * Fraction(rel_tol), Fraction(abs_tol))
    return abs(expected.value - number.value) <= allowed
