"""Finds the equations that a text states, and decides whether they hold.

Algebra (`5x + 3`), labels (`Day 1 = ...`) and fragments are skipped, and an equation that can be read in two ways
is reported only if it holds: to call a right equation false is worse than to miss a false one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from verifiers.prose.arithmetic import BINDING, SHORT_UNITS, Number, Reader, Token, lex, plain, words

_APPROXIMATELY = words("about approximately roughly around nearly")
_ROUNDED = words("remainder rounded rounding rounds approximately full whole complete")
_LABELS = words("day week month year step number case")
_ENDS = frozenset(["words", "stop", "line", "end"])
_CALCULATOR_PLACES = 10  # decimals from which a number is taken for a calculator's output
_UNIT_ROOM = 16  # characters after a right side in which its unit is searched: "2.50 - 2.24 = 26 cents"
_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")
# An equation with two units of one kind, or with a scale ("3 dozen = 36"), may convert: it is never called false.
_KINDS = {
    "time": "second minute hour hr day week weekday weekend month year decade century min sec",
    "money": "cent dime nickel quarter penny pennie dollar",
    "length": "inch inche foot feet yard mile mm cm m km meter metre centimeter millimeter kilometer",
    "weight": "gram kilogram kg g mg pound lb ounce oz ton tonne",
    "volume": "ml l liter litre milliliter cup pint quart gallon tablespoon teaspoon",
}
_KIND_OF = {word: kind for kind, units in _KINDS.items() for word in units.split()}
_SCALES = re.compile(r"\b(?:dozen|hundred|thousand|million|billion|cents?|[kK])\b")
_SENTENCE = re.compile(r"\n|(?<=[.?!]) ")
_EQUALS = frozenset("=\u2248")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Equation:
    """A stated equation.

    Attributes:
        text: The equation as written, with LaTeX and Unicode signs replaced by ASCII and `≈`.
        left: Value of the left side, exact.
        right: Value of the right side, exact.
        holds: Whether the sides are equal, or one is a right rounding of the other.
    """

    text: str
    left: Number
    right: Number
    holds: bool


@dataclass(slots=True)
class _Side:
    """One side of an equation.

    Attributes:
        value: Its value.
        bare_value: Its value without percent signs: 50 for "50%".
        places: Number of decimals shown.
        has_operator: Whether it is more than one number.
        is_usable: False for algebra and fragments.
        is_doubtful: True where another reading exists.
        start: Where it begins in the text.
        end: Where it ends in the text.
    """

    value: Number
    bare_value: Number
    places: int
    has_operator: bool
    is_usable: bool
    is_doubtful: bool
    start: int
    end: int


def find_equations(text: str) -> Iterator[Equation]:
    """Yield the equations that a text states, each once.

        >>> [(e.text, e.holds) for e in verifiers.find_equations("48/2 = 24 clips, and 48 + 24 = 73.")]
        [('48/2 = 24', True), ('48 + 24 = 73', False)]

    Calculator annotations as in GSM8K, `<<48/2=24>>`, come first.

    Args:
        text: A chain of thought.
    """
    seen: set[str] = set()
    if "<<" in text:
        text = "\n".join([*_ANNOTATION.findall(text), _ANNOTATION.sub("", text)])
    text = plain(_sentences_with_equations(text))
    for left, right, is_approximate in _sides(text):
        if not (left.is_usable and right.is_usable and (left.has_operator or right.has_operator)):
            continue
        holds = _holds(left, right, is_approximate)
        if not holds and (
            left.is_doubtful or right.is_doubtful or _converts(text[left.start : right.end + _UNIT_ROOM])
        ):
            continue
        stated = text[left.start : right.end]
        key = stated.replace(" ", "").replace("$", "")
        if key not in seen:
            seen.add(key)
            yield Equation(stated, left.value, right.value, holds)


def _sentences_with_equations(text: str) -> str:
    """Return the sentences next to an equals sign, so that no time is spent on the rest."""
    sentences = ["", *_SENTENCE.split(text), ""]
    return "\n".join(
        sentence
        for before, sentence, after in zip(sentences, sentences[1:], sentences[2:], strict=False)
        if "=" in sentence
        or "\u2248" in sentence
        or "\\approx" in sentence
        or after.lstrip(" &")[:1] in _EQUALS
        or before.rstrip(" &")[-1:] in _EQUALS
    )


def _holds(left: _Side, right: _Side, is_approximate: bool) -> bool:
    """Whether two sides are equal, a percent being its value or the bare number, or one rounds the other rightly."""
    if left.value == right.value:
        return True
    for first in {left.value, left.bare_value}:
        for second in {right.value, right.bare_value}:
            if first == second or _is_rounding(first, second, right, is_approximate):
                return True
    return not left.has_operator and _is_rounding(right.value, left.value, left, is_approximate)


def _is_rounding(exact: Number, shown: Number, side: _Side, is_approximate: bool) -> bool:
    if side.has_operator or not shown or not (side.places or is_approximate):
        return False
    places = side.places + (2 if side.value != side.bare_value and shown == side.value else 0)
    # The last digits of a calculator's output are noise: 4.20 + 9.45 = 13.649999999999999.
    room = Fraction(100 if places >= _CALCULATOR_PLACES else 1, 2 * 10**places)
    return abs(Fraction(exact) - shown) <= room


def _converts(stated: str) -> bool:
    if _SCALES.search(stated):
        return True
    found: dict[str, set[str]] = {}
    for word in _WORD.findall(stated.lower()):
        singular = word.rstrip("s")
        if kind := _KIND_OF.get(singular):
            found.setdefault(kind, set()).add(singular)
    return any(len(units) > 1 for units in found.values())


def _sides(text: str) -> Iterator[tuple[_Side, _Side, bool]]:
    """Yield (left, right, is_approximate) for every equals sign of a plain text with an expression on both sides."""
    tokens = lex(text)
    if not any(token.kind == "eq" for token in tokens):
        return
    reader = Reader(tokens)
    left: _Side | None = None
    at, count = 0, len(tokens)
    while at < count:
        kind = tokens[at].kind
        if kind == "eq":
            is_approximate = tokens[at].text != "="
            at += 1
            while at < count and tokens[at].kind == "line":
                at += 1
            if at < count and tokens[at].text in _APPROXIMATELY:
                is_approximate = True
                at += 1
            if not reader.starts(at):
                left = None
                continue
            right = _side(reader, at)
            at = reader.at
            _judge_end(reader, right)
            if left is not None:
                yield left, right, is_approximate
            left = right if _goes_on(reader, right) else None
        elif kind == "num" and reader.tokens[at + 1].kind in _ENDS:
            left = None  # a number alone is no side
            at += 1
        elif _is_bullet(tokens, at):
            left = None
            at += 1
        elif reader.starts(at):
            left = _side(reader, at)
            _judge_start(tokens, at, left)
            at = reader.at
            if not _goes_on(reader, left):
                left = None
        else:
            left = None
            at += 1


def _is_bullet(tokens: list[Token], at: int) -> bool:
    """Whether a minus sign is a bullet, as in a line "- 3 + 4 = 7" but not "-3 + 4 = 1"."""
    token = tokens[at]
    starts_line = at == 0 or tokens[at - 1].kind == "line"
    return token.text == "-" and starts_line and at + 1 < len(tokens) and token.end < tokens[at + 1].start


def _goes_on(reader: Reader, side: _Side) -> bool:
    """Whether a side is the left one of an equation, which "3 hours = 3 * 60" is not: it converts a unit."""
    return reader.tokens[reader.at].kind == "eq" and (side.has_operator or not reader.has_unit)


def _side(reader: Reader, at: int) -> _Side:
    reader.at, reader.operators, reader.percents = at, 0, 0
    reader.is_usable, reader.is_doubtful, reader.has_unit = True, False, False
    value = reader.sum()
    last = reader.tokens[reader.at - 1]
    bare_value = value
    if reader.percents:
        # Read it again with percent signs ignored.
        end, reader.at, reader.percent = reader.at, at, 1
        bare_value = reader.sum()
        reader.at, reader.percent = end, 100
    figure = at
    while reader.tokens[figure].kind not in ("num", "frac"):
        figure += 1
    return _Side(
        value=value,
        bare_value=bare_value,
        places=len(reader.tokens[figure].text.rstrip("% percnt").partition(".")[2]),
        has_operator=reader.operators > 0,
        is_usable=reader.is_usable,
        is_doubtful=reader.is_doubtful,
        start=reader.tokens[at].start,
        end=last.end,
    )


def _judge_start(tokens: list[Token], at: int, left: _Side) -> None:
    """Mark a left side as unusable or doubtful by the token before it."""
    if at == 0:
        return
    before, first = tokens[at - 1], tokens[at]
    is_bullet = before.kind == "op" and (at == 1 or tokens[at - 2].kind == "line")
    if (before.kind == "op" and not is_bullet) or before.kind in ("bad", "frac") or before.text.lower() in BINDING:
        left.is_usable = False
    elif before.kind == "word":
        # "Week 1 = 10 + 5" names a week; "Day 1 - 3 + 4 = 7" numbers a day; "a day - 3 = 7" lacks its beginning.
        left.is_usable &= left.has_operator and before.end < first.start and first.text != "-"
        left.is_doubtful |= (
            before.text[0].isupper()
            or before.text in _LABELS
            or (before.text == "and" and tokens[at - 2].kind == "num")
        )
    elif before.kind in ("num", "close"):
        left.is_usable &= before.end < first.start and left.has_operator and first.text != "-"
        left.is_doubtful = True
    elif before.kind == "stop":
        # 12:00 + 18, or "100 + (50 * 2 = " with a bracket that never closes, or 14, 400 / 80
        is_glued = before.text in ":.," and before.end == first.start
        left.is_usable &= not is_glued and tokens[at - 2].kind != "op"
        is_thousands = before.text == "," and len(first.text) == 3
        left.is_doubtful |= is_thousands and tokens[at - 2].kind == "num"


def _judge_end(reader: Reader, right: _Side) -> None:
    """Mark a right side as unusable or doubtful by the tokens after it."""
    after, beyond = reader.tokens[reader.at], reader.tokens[reader.at + 1]
    is_glued = after.start == right.end
    if after.kind == "op":
        is_dash = after.text == "-" and not is_glued and beyond.kind == "word" and len(beyond.text) > 2
        is_markup = after.text == "*" and beyond.kind in ("line", "stop", "end")
        right.is_usable &= is_dash or is_markup
    elif after.kind == "words":
        right.is_doubtful |= not _ROUNDED.isdisjoint(after.text.split())
    elif after.kind == "word":
        is_algebra = len(after.text) < 3 and after.text not in SHORT_UNITS and (is_glued or len(after.text) == 1)
        right.is_usable &= not is_algebra and after.text.lower() not in BINDING
        # "3 hours 20 minutes", "16 and 2/3"
        goes_on = beyond.kind in ("num", "open") and (after.text == "and" or after.text.rstrip("s") in _KIND_OF)
        right.is_doubtful |= goes_on or after.text in _ROUNDED or beyond.text in _ROUNDED
    elif after.kind == "bad" or (after.kind == "open" and is_glued):
        right.is_usable = False
    elif after.kind == "num" or after.text == beyond.text == ".":  # "16.66..."
        right.is_doubtful = True
    elif after.kind == "open":
        right.is_doubtful |= beyond.text in _ROUNDED
