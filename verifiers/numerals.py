"""Plain numerals, exactly: commas, percent, mixed numbers, scientific notation, scale words, units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from verifiers.latex import TEXT_CLOSE, TEXT_OPEN

# Longer numerals are compared as text: int() of a long digit string takes quadratic time.
DIGITS_LIMIT = 400
_EXPONENT_LIMIT = 400
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?![\d/ ])|\d+)(?:\.\d*)?|\.\d+"
_POWER_OF_TEN = r"\s?(?:\\times|\\cdot|x|\*)\s?10\s?\^\s?(?:\{\s?(?P<pow>[-+]?\d{1,4})\s?\}|(?P<pow1>[-+]?\d{1,4}))"
_MIXED = (
    r"\s(?P<mnum>\d+)\s?/\s?(?P<mden>\d+)"
    r"|\s?\\frac\s?(?:\{\s?(?P<fnum>\d+)\s?\}|(?P<fnum1>\d))\s?(?:\{\s?(?P<fden>\d+)\s?\}|(?P<fden1>\d))"
)
_NUMERAL = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<whole>{_DECIMAL})(?:[eE](?P<exp>[-+]?\d{{1,4}})|{_POWER_OF_TEN})?"
    rf"(?:\s?/\s?(?P<den>\d+(?:\.\d+)?)|{_MIXED})?(?P<rest>.*)",
    re.DOTALL,
)
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s?\\frac\s?(?:\{\s?(?P<num>[-+]?\d+(?:\.\d+)?)\s?\}|(?P<num1>\d))\s?"
    r"(?:\{\s?(?P<den>[-+]?\d+(?:\.\d+)?)\s?\}|(?P<den1>\d))(?P<rest>.*)",
    re.DOTALL,
)
_SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES, _TENS = _ONES_TEXT.split(), _TENS_TEXT.split()
_WORDS = {word: value for value, word in enumerate(_ONES)} | {w: 20 + 10 * i for i, w in enumerate(_TENS)}
# Units of one letter are units only inside \text{}; these are units anywhere.
_SHORT_UNITS_TEXT = (
    "cm mm km dm kg mg lb oz ft in mi mph kph kmh ml hr hrs min sec ms am pm gb mb kb hz kw mw pt qt cl sq"
)
_SHORT_UNITS = frozenset(_SHORT_UNITS_TEXT.split())
# After a number these are no unit: they say that the number is not the whole answer.
_NOT_UNITS_TEXT = (
    "or and not than minus plus times divided mod sin cos tan sec csc cot log ln exp sqrt pi if when maybe "
    "to of is are more less half quarter"
)
_NOT_UNITS = frozenset(_NOT_UNITS_TEXT.split())
_UNIT_WORD = re.compile(r"[a-zA-Z]+\.?")
_UNIT_TEXT = re.compile(rf"[{TEXT_OPEN}{TEXT_CLOSE}\s]|\^\s?\{{?\s?\d\s?\}}?|\^\s?\{{?\s?\\circ\s?\}}?")
_ALIASES = {
    "usd": "dollar", "buck": "dollar", "centimeter": "cm", "meter": "m", "metre": "m", "kilometer": "km",
    "inch": "in", "inche": "in", "foot": "ft", "feet": "ft", "gram": "g", "kilogram": "kg", "pound": "lb",
    "hour": "hr", "h": "hr", "minute": "min", "second": "sec", "s": "sec", "mile": "mi", "liter": "l",
    "litre": "l", "degree": "deg", "milliliter": "ml", "ounce": "oz", "mph": "mi/hr",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numeral:
    """`places` and `digits` count the decimals and the significant digits as written."""

    value: Fraction
    is_percent: bool = False
    unit: frozenset[str] = frozenset()
    places: int = 0
    digits: int = 0


def parse_numeral(text: str) -> Numeral | None:
    """Return the number that a cleaned text states, or None if it is not one plain numeral (with a unit)."""
    if len(text) > DIGITS_LIMIT or not text:
        return None
    text = _unwrapped(text)
    if match := _FRACTION.match(text):
        numerator = Fraction(match["num"] or match["num1"])
        denominator = Fraction(match["den"] or match["den1"])
        if not denominator:
            return None
        value, places, digits = numerator / denominator, 0, 0
    elif match := _NUMERAL.match(text):
        parsed = _decimal(match)
        if parsed is None:
            return None
        value, places, digits = parsed
    else:
        return _from_words(text)
    if match["sign"] == "-":
        value = -value
    return _with_rest(value, match["rest"], places, digits)


def _unwrapped(text: str) -> str:
    while len(text) > 2 and text[0] in "{(" and text[-1] == {"{": "}", "(": ")"}[text[0]]:
        if any(bracket in text[1:-1] for bracket in "(){}"):
            break
        text = text[1:-1].strip()
    return text.strip("'\" ")


def _decimal(match: re.Match[str]) -> tuple[Fraction, int, int] | None:
    whole = match["whole"].replace(",", "").replace(" ", "")
    value = Fraction(f"0{whole}" if whole.startswith(".") else whole.rstrip(".") or "0")
    places = len(whole.partition(".")[2])
    exponent = match["exp"] or match["pow"] or match["pow1"]
    if exponent is not None:
        if abs(int(exponent)) > _EXPONENT_LIMIT:
            return None
        value *= Fraction(10) ** int(exponent)
        places = max(0, places - int(exponent))
    numerator = match["mnum"] or match["fnum"] or match["fnum1"] or match["den"]
    if match["den"]:
        if not Fraction(match["den"]):
            return None
        value, places = value / Fraction(match["den"]), 0
    elif numerator is not None:
        denominator = int(match["mden"] or match["fden"] or match["fden1"])
        if not denominator or "." in whole:
            return None
        value, places = value + Fraction(int(numerator), denominator), 0
    return value, places, len(whole.replace(".", "").lstrip("0"))


def _with_rest(value: Fraction, rest: str, places: int, digits: int) -> Numeral | None:
    """Read the percent sign, the scale word and the unit after a number; None if anything else follows."""
    rest = rest.strip()
    is_percent = rest.startswith("%")
    if is_percent:
        rest = rest[1:].strip()
        value, places = value / 100, places + 2
    if not rest:
        return Numeral(value, is_percent, frozenset(), places, digits)
    if rest.startswith("(") and rest.endswith(")") and re.search("[a-zA-Z]", rest):
        return Numeral(value, is_percent, frozenset(), places, digits)  # "3 (1 white, 2 blue)"
    unit = _unit(rest)
    if unit is None or len(unit) > 6:
        return None
    scales = [word for word in unit if word in _SCALES]
    for word in scales:
        value, places = value * _SCALES[word], 0
    return Numeral(value, is_percent, frozenset(unit) - set(scales), places, digits)


def _unit(rest: str) -> list[str] | None:
    """Return the words of a unit, or None where the text is no unit, such as a variable."""
    in_text = TEXT_OPEN in rest
    if re.fullmatch(r"\^\s?\{?\s?\\circ\s?\}?\s?(?:deg|degrees?)?", rest.strip()):
        return ["deg"]
    if not in_text and not rest[0].isalpha():
        return None
    bare = _UNIT_TEXT.sub(" ", rest).replace("/", " ").replace("-", " ").replace(",", " ")
    words = bare.split()
    if not all(_UNIT_WORD.fullmatch(word) for word in words):
        return None
    words = [word.rstrip(".").lower() for word in words]
    if _NOT_UNITS & set(words):
        return None
    if not in_text and any(len(word) == 1 and word != "a" for word in words):
        return None
    if not in_text and any(len(word) == 2 and word not in _SHORT_UNITS for word in words[:1]):
        return None
    return [_ALIASES.get(_singular(word), _singular(word)) for word in words if word not in ("per", "a", "the", "in")]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _from_words(text: str) -> Numeral | None:
    words = text.lower().replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").replace("-", " ").split()
    if not words or words[0] not in _WORDS:
        return None
    value = _WORDS[words[0]]
    used = 1
    if len(words) > 1 and words[0] in _TENS and words[1] in _ONES[1:10]:
        value += _WORDS[words[1]]
        used = 2
    rest = " ".join(words[used:])
    if rest and _unit(rest) is None:
        return None
    return _with_rest(Fraction(value), rest, 0, 0)


def same_unit(first: Numeral, second: Numeral) -> bool:
    """Units matter only where both are stated and neither says the same with fewer words."""
    return not first.unit or not second.unit or first.unit <= second.unit or second.unit <= first.unit


def is_rounding(decimal: Numeral, exact: Fraction) -> bool:
    """True if `decimal` gives a value without finite decimals right to 6 places and 6 digits or more."""
    if decimal.places < 6 or decimal.digits < 6 or _terminates(exact):
        return False
    return abs(decimal.value - exact) < Fraction(1, 10**decimal.places)


def _terminates(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def same_number(reference: Numeral, answer: Numeral) -> bool:
    """Exact equality; a percent equals its value or the bare number; long decimals may round a fraction."""
    if not same_unit(reference, answer):
        return False
    candidates = [answer.value]
    if answer.is_percent != reference.is_percent:
        candidates.append(answer.value * 100 if answer.is_percent else answer.value / 100)
    if reference.value in candidates:
        return True
    return is_rounding(answer, reference.value) or is_rounding(reference, answer.value)
