r"""Mathematical answers: numbers, fractions, expressions, equations, sets, tuples, intervals, matrices.

Three tiers, cheapest first: exact arithmetic on plain numerals; structure and a closed grammar evaluated at
points (`verifiers.structures`); and math-verify for what neither can tell. Model text reaches sympy only
through math-verify's LaTeX grammar, never through `sympify`, `parse_expr` or `eval`, and only if it is short,
shallow and without towers of powers. (That grammar hands its number tokens to sympify: digits, nothing else.)
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from typing import Any

from verifiers.checks.choice import letter_of
from verifiers.extract import FALLBACKS, extract, reference_answer
from verifiers.heartbeat import uncounted
from verifiers.latex import TEXT_CLOSE, TEXT_OPEN, clean, squeeze
from verifiers.numerals import Numeral, parse_numeral, same_number
from verifiers.registry import UnknownOption, register
from verifiers.structures import same_answer
from verifiers.types import Reason, Verdict

# Answers beyond these cost more than they are worth, and no real answer comes near.
LENGTH_LIMIT = 2000
LAST_TIER_LENGTH = 300
NESTING_LIMIT = 12
_TOWER = re.compile(r"\^\s*\{?[^{}^]{0,20}\^|\d{4,}\s*\}?\s*!|!\s*!|\^\s*\{?\s*-?\d{4,}|\)\s*!")
_LOOSE_WORD = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}|\.\.\.|\\p?mod(?![a-z])")
_HEAVY = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference, read once: its final answer, cleaned, and its number if it is one."""

    text: str
    key: str
    number: Numeral | None
    letter: str | None


@functools.lru_cache(maxsize=65_536)
def read_reference(reference: str) -> Reference | None:
    """Return the parsed reference, or None if it states no answer."""
    text = clean(reference_answer(reference))
    if not text or len(text) > LENGTH_LIMIT:
        return None
    letter = text if re.fullmatch(r"[A-J]", text.strip(TEXT_OPEN + TEXT_CLOSE + "()")) else None
    return Reference(text, squeeze(text), parse_numeral(text), letter and text.strip(TEXT_OPEN + TEXT_CLOSE + "()"))


def reference_problem(reference: Any) -> str | None:
    if isinstance(reference, bool) or not isinstance(reference, (str, int, float)):
        return f"a reference must be text or a number, not {type(reference).__name__}"
    if read_reference(str(reference)) is None:
        return f"no final answer found in {str(reference)!r:.80}"
    return None


def warm_up() -> None:
    """Import sympy and math-verify, 0.4 s, outside any item's time limit."""
    with uncounted():
        logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own alarm is off
        import math_verify  # noqa: F401


def verdict(status: bool | None, answer: str | None, reason: Reason) -> Verdict:
    """A Verdict whose name and version the registry fills in."""
    if status is None:
        return Verdict("unknown", None, answer, reason, "", "")
    return Verdict("correct" if status else "incorrect", float(status), answer, reason, "", "")


@register(
    "math",
    version="1",
    timeout=2.0,
    example=("... so \\boxed{\\frac12}", "0.5"),
    warm_up=warm_up,
    reference_problem=reference_problem,
)
def math(
    completion: str, reference: str | int | float, *, fallback: str = "sentence", symbolic: bool = True
) -> Verdict:
    """The final answer equals the reference as mathematics (numbers, LaTeX, sets, intervals, equations).

    `fallback` says what counts as the answer of a completion without a marker: none, sentence or last_number.
    `symbolic` false leaves out the last tier, math-verify; what only it could tell is then `undecided`.
    """
    if fallback not in FALLBACKS:
        raise UnknownOption(f"option 'fallback' must be one of {', '.join(FALLBACKS)}, not {fallback!r}")
    if reference_problem(reference) is not None:
        return verdict(None, None, "bad_reference")
    gold = read_reference(str(reference))
    assert gold is not None
    found = extract(completion, fallback=fallback)  # type: ignore[arg-type]
    if found.answer is None:
        return verdict(False, None, found.reason or "no_answer")
    same = compare(gold, found.answer, symbolic=symbolic)
    if same is None:
        return verdict(None, found.answer, "undecided")
    return verdict(same, found.answer, "match" if same else "mismatch")


def compare(gold: Reference, answer: str, *, symbolic: bool) -> bool | None:
    """Return whether the answer is the reference's; None if no tier can tell."""
    if len(answer) > LENGTH_LIMIT:
        return False
    text = clean(answer)
    if gold.letter is not None and (letter := letter_of(text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " "))):
        return letter == gold.letter
    number = parse_numeral(text)
    if gold.number is not None and number is not None:
        return same_number(gold.number, number)
    same = same_answer(gold.text, text)
    if same is not None:
        return same
    # What the closed grammar cannot read is no way to write a plain number; math-verify would accept "1 2" for 12.
    if gold.number is not None or _LOOSE_WORD.search(text):
        return False
    if is_hostile(text):
        return None if is_hostile(gold.text) else False
    if is_hostile(gold.text) or _LOOSE_WORD.search(gold.text) or not symbolic:
        return None
    return _math_verify(gold.text, text)


def is_hostile(text: str) -> bool:
    """Towers of powers, huge factorials, deep nesting, long text, unbounded operators."""
    depth = deepest = 0
    for char in text:
        depth += (char in "{([") - (char in "})]")
        deepest = max(deepest, depth)
    return len(text) > LAST_TIER_LENGTH or deepest > NESTING_LIMIT or bool(_TOWER.search(text) or _HEAVY.search(text))


def _math_verify(reference: str, answer: str) -> bool:
    """The last tier: math-verify, reading LaTeX only (its plain-text reader calls parse_expr)."""
    warm_up()
    import math_verify

    gold, target = _parse_latex(reference), _parse_latex(answer)
    # Its own time limits use signal.alarm, which works in no thread but the main one; the pool's limit holds.
    return bool(
        gold
        and target
        and math_verify.verify(gold, target, float_rounding=12, timeout_seconds=None, raise_on_error=True)
    )


@functools.lru_cache(maxsize=4_096)
def _parse_latex(text: str) -> tuple[Any, ...] | list[Any]:
    import math_verify

    bare = re.sub(rf"{TEXT_OPEN}([^{TEXT_CLOSE}]*){TEXT_CLOSE}", r"\\text{\1}", text)
    parsed: list[Any] = math_verify.parse(
        f"\\boxed{{{bare}}}",
        extraction_config=[math_verify.LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,
        raise_on_error=True,
    )
    return parsed
