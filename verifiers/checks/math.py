r"""The verifier `math`: numbers, expressions, equations, sets, tuples, intervals, matrices.

Three tiers, cheapest first: exact arithmetic on plain numerals; structure and a closed grammar of expressions
evaluated at points (`verifiers.math.compare`); and the library math-verify for what neither can tell. A model's
text reaches sympy only through math-verify's LaTeX grammar, never through `sympify`, `parse_expr` or `eval`, and
only if it is short, shallow and without towers of powers. (That grammar passes its number tokens, which are
digits only, to sympify.)
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass
from typing import Any

from verifiers.checks.choice import letter_of
from verifiers.extraction.answer import FALLBACKS, extract, plain_number, reference_answer
from verifiers.math.compare import Scope, same_answer
from verifiers.math.conventions import DEFAULT, UNITS, Conventions
from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN, clean
from verifiers.math.numbers import Numeral, parse_numeral, same_number
from verifiers.registry import UnknownOption, register
from verifiers.types import Verdict
from verifiers.workers.heartbeat import uncounted

# In characters and levels of brackets. Real answers are far below; longer ones take sympy seconds to minutes.
_LENGTH_LIMIT = 2000
_LAST_TIER_LENGTH = 300
_NESTING_LIMIT = 12
_TOWER = re.compile(
    r"\^\s*\{?[^{}^]{0,20}\^|\d{4,}\s*\}?\s*!|!\s*!|\^\s*\{?\s*-?\d{4,}|\)\s*!|\*\*|binom[^a-z]{0,9}(?:\d{4}|\^)"
)
_LOOSE_WORD = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}|\.\.\.|\\p?mod(?![a-z])")
_LABEL = re.compile(rf"{TEXT_OPEN}?\([A-J]\)\s?{TEXT_CLOSE}?(?=\s?[-\w\\({TEXT_OPEN}])")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_POINT_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.])")
_HEAVY = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference.

    `text` is its final answer, cleaned; `number` its value where it is one number, and `letter` its letter where it
    is one of A to J. `integer` is the value of a whole number without unit or percent sign, as most references are.
    """

    text: str
    number: Numeral | None
    letter: str | None
    integer: int | None


@functools.lru_cache(maxsize=65_536)
def read_reference(reference: str) -> Reference | None:
    """Return the parsed reference, or None if it states no answer."""
    return _read(reference_answer(reference))


@functools.lru_cache(maxsize=65_536)
def _read_with_decimal_commas(reference: str) -> Reference | None:
    return _read(_decimal_points(reference_answer(reference)))


def _read(answer: str) -> Reference | None:
    text = clean(answer)
    if not text or len(text) > _LENGTH_LIMIT:
        return None
    bare = text.strip(TEXT_OPEN + TEXT_CLOSE + "()")
    number = parse_numeral(text)
    is_whole = number is not None and number.value.denominator == 1
    is_bare = is_whole and number is not None and not number.is_percent and not number.unit.is_stated
    return Reference(
        text,
        number,
        bare if re.fullmatch(r"[A-J]", bare) else None,
        number.value.numerator if number is not None and is_bare else None,
    )


def _decimal_points(answer: str) -> str:
    """Return an answer with points for decimal commas: 1.234,5 becomes 1234.5."""
    return _COMMA.sub(".", _POINT_GROUPS.sub(lambda groups: groups[0].replace(".", ""), answer))


def _reference_problem(reference: Any) -> str | None:
    if isinstance(reference, bool) or not isinstance(reference, (str, int, float)):
        return f"a reference must be text or a number, not {type(reference).__name__}"
    if read_reference(str(reference)) is None:
        return f"no final answer found in {str(reference)!r:.80}"
    return None


def _warm_up() -> None:
    """Import sympy and math-verify (0.4 s) outside any item's time limit."""
    with uncounted():
        logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns where its own timeout is off
        import math_verify  # noqa: F401


@register(
    "math",
    version="2",
    timeout=2.0,
    example=("... so \\boxed{\\frac12}", "0.5"),
    warm_up=_warm_up,
    reference_problem=_reference_problem,
)
def math(
    completion: str,
    reference: str | int | float,
    *,
    fallback: str = "sentence",
    symbolic: bool = True,
    percent: bool = True,
    units: str = "optional",
    ordered: bool = False,
    decimals: int = 6,
    decimal_comma: bool = False,
    case_sensitive: bool = False,
    names: bool = True,
) -> Verdict:
    """The final answer equals the reference as mathematics (numbers, LaTeX, sets, intervals, equations).

    `fallback`: what counts as the answer of a completion without a marker: none, sentence or last_number.
    `symbolic`: false leaves out the last tier, math-verify; what only it could tell is then `undecided`.
    `percent`: a percent equals its value or the bare number (50% is 0.5 and 50); false: its value only.
    `units`: optional (5 cm is 5, but not 5 m), required (where the reference states one), or ignored.
    `ordered`: bare lists and braces keep their order; by default only parentheses and brackets do.
    `decimals`: how many correct decimals equal a value with endless decimals (0.333333 for 1/3); 0: none do.
    `decimal_comma`: 1,5 is one and a half and 1.000 a thousand; by default 1,5 is a list and 1,000 a thousand.
    `case_sensitive`: words differ where their case does.
    `names`: x = 5 equals 5 (never y = 5); false: only another x = 5.

    Fixed rules: tuples are ordered; the brackets of an interval matter, and an interval equals its inequality;
    equations are equal up to rearranging and a factor; a clock time may lack its a.m. or p.m.; number bases and ratios
    compare as written; several adjacent boxes are one answer of several values.
    """
    expected = read_reference(reference) if isinstance(reference, str) else None
    if (
        expected is not None
        and expected.integer is not None
        and not decimal_comma
        and (plain := plain_number(completion))
    ):
        # A shortcut for the most frequent case: a whole number after a marker in the last line.
        if plain[1] == expected.integer:
            return Verdict.correct(plain[0])
        return Verdict.incorrect("mismatch", plain[0])
    rules = _conventions(fallback, percent, units, ordered, decimals, decimal_comma, case_sensitive, names)
    if _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    expected = _read_with_decimal_commas(str(reference)) if decimal_comma else read_reference(str(reference))
    assert expected is not None
    found = extract(completion, fallback=fallback)  # type: ignore[arg-type]
    if found.answer is None:
        return Verdict.incorrect(found.reason or "no_answer")
    same = matches_reference(expected, found.answer, symbolic=symbolic, rules=rules)
    if same is None:
        return Verdict.unknown("undecided", found.answer)
    return Verdict.correct(found.answer) if same else Verdict.incorrect("mismatch", found.answer)


@functools.lru_cache(maxsize=256)
def _conventions(
    fallback: str,
    percent: bool,
    units: str,
    ordered: bool,
    decimals: int,
    decimal_comma: bool,
    case_sensitive: bool,
    names: bool,
) -> Conventions:
    """Return the conventions that the options set; raise UnknownOption for a value that is not allowed."""
    if fallback not in FALLBACKS:
        raise UnknownOption(f"option 'fallback' must be one of {', '.join(FALLBACKS)}, not {fallback!r}")
    if units not in UNITS:
        raise UnknownOption(f"option 'units' must be one of {', '.join(UNITS)}, not {units!r}")
    if decimals < 0:
        raise UnknownOption(f"option 'decimals' must be 0 or more, not {decimals}")
    return Conventions(
        percent=percent,
        units=units,
        ordered=ordered,
        decimals=decimals,
        decimal_comma=decimal_comma,
        case_sensitive=case_sensitive,
        names=names,
    )


def matches_reference(
    expected: Reference, answer: str, *, symbolic: bool = True, rules: Conventions = DEFAULT
) -> bool | None:
    """Whether an answer equals a parsed reference; None if no tier can tell."""
    if len(answer) > _LENGTH_LIMIT:
        return False
    text = clean(_decimal_points(answer) if rules.decimal_comma else answer)
    if expected.letter is not None and (letter := letter_of(text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " "))):
        return letter == expected.letter
    if expected.letter is None and (label := _LABEL.match(text)):
        text = text[label.end() :].strip()  # "(B) 18" for 18
    number = parse_numeral(text)
    if expected.number is not None and number is not None:
        return same_number(expected.number, number, rules)
    same = same_answer(expected.text, text, Scope(rules))
    if same is not None:
        return same
    # Every way to write a plain number is in the closed grammar; math-verify would accept "1 2" for 12.
    if expected.number is not None or _LOOSE_WORD.search(text):
        return False
    if _is_hostile(text):
        return None if _is_hostile(expected.text) else False
    if _is_hostile(expected.text) or _LOOSE_WORD.search(expected.text) or not symbolic or rules != DEFAULT:
        return None
    return _math_verify(expected.text, text)


def _is_hostile(text: str) -> bool:
    """Whether sympy may take too long: towers of powers, huge factorials, deep nesting, long text, sums, integrals."""
    depth = deepest = 0
    for char in text:
        depth += (char in "{([") - (char in "})]")
        deepest = max(deepest, depth)
    return len(text) > _LAST_TIER_LENGTH or deepest > _NESTING_LIMIT or bool(_TOWER.search(text) or _HEAVY.search(text))


def _math_verify(reference: str, answer: str) -> bool:
    """Whether math-verify finds two answers equal. It reads them as LaTeX: as plain text it would call parse_expr."""
    _warm_up()
    import math_verify

    expected, target = _parsed_reference(reference), _parse_latex(answer)
    # Its own timeouts use signal.alarm, which works in the main thread only; the pool's time limit replaces them.
    return bool(
        expected
        and target
        and math_verify.verify(expected, target, float_rounding=12, timeout_seconds=None, raise_on_error=True)
    )


@functools.lru_cache(maxsize=4_096)
def _parsed_reference(text: str) -> tuple[Any, ...] | list[Any]:
    return _parse_latex(text)


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
