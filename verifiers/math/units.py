"""Parses the unit after a number: known units with exponents, and other words such as "red apples"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN

# The names of one unit on each part of a line; the first one stands for all.
_KNOWN_TEXT = """
dollar dollars usd buck bucks us$|euro euros eur|gbp quid|yen jpy|rupee rupees inr rs|yuan rmb cny|cent cents
mm millimeter millimeters millimetre millimetres|cm centimeter centimeters centimetre centimetres
m meter meters metre metres|km kilometer kilometers kilometre kilometres|in inch inches|foot feet ft
yard yards yd yds|mile miles mi|mg milligram milligrams|g gram grams|kg kgs kilogram kilograms kilo kilos
ton tons tonne tonnes|lb lbs|oz ounce ounces|ml milliliter milliliters millilitre millilitres
l liter liters litre litres|gallon gallons gal|quart quarts qt|pint pints pt|cup cups
ms millisecond milliseconds|sec secs second seconds s|min mins minute minutes|hr hrs hour hours h
day days|week weeks|month months|year years yr yrs|radian radians rad rads|deg degs degree degrees|degc celsius
degf fahrenheit|hz hertz|khz|mhz|j joule joules|kj|n newton newtons|w watt watts|kw|mw|kwh|pa|kpa|v volt volts
kb|mb|gb|ohm ohms
"""
_KNOWN = {
    name: names.split()[0]
    for line in _KNOWN_TEXT.strip().splitlines()
    for names in line.split("|")
    for name in names.split()
}
# Units only inside \text{}: elsewhere a single letter is a variable, and the others have another meaning.
_ONLY_IN_TEXT = frozenset(name for name in _KNOWN if len(name) == 1) | {"in", "rs", "pa"}
_SPEEDS = {"mph": "mi/hr", "kph": "km/hr", "kmh": "km/hr", "kmph": "km/hr", "mps": "m/sec", "fps": "ft/sec"}
_CANONICAL = {"mile": "mi", "foot": "ft", "yard": "yd", "gallon": "gal", "degree": "deg"}
# Words that name no unit: "25 square units" is 25.
_EMPTY = frozenset(
    {"unit", "units", "the", "a", "an", "of", "us", "total", "altogether", "left", "each", "more", "less"}
)
_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
# After a number these words mean that the number is not the whole answer.
_NOT_UNITS_TEXT = (
    "or and not than minus plus times divided mod sin cos tan sec csc cot log ln exp sqrt pi if when maybe perhaps "
    "to is are was were isn half quarter quarters third thirds wrong incorrect possibly probably approximately about "
    "am pm "
    "tenth tenths hundredth hundredths thousandth thousandths "
    "st nd rd th if factorial percent negative around between either neither nor but less fewer"
)
_NOT_UNITS = frozenset(_NOT_UNITS_TEXT.split())
# These words begin a description that is no unit, as in "72 clips altogether in April and May".
_DESCRIPTION = re.compile(
    r"[\s,]+(?:in (?=\S)|on|at|for|from|after|during|with|without|by|among|because|since|so|that|which|who|left|each"
    r"|per person|per child|altogether|total|remaining|every|today|now|long|tall|wide|old|away)\b.*",
    re.DOTALL | re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\d|\b(?:or|not|maybe|perhaps|wrong|minus|plus|times|than|if|hundred|thousand|million)\b", re.IGNORECASE
)
_FRACTION = re.compile(r"\\frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_CIRC = re.compile(r"\^\s?\{?\s?\\circ\s?\}?\s?([CF])?(?![a-z])")
_POWER = re.compile(r"\s?\^\s?\{?\s?(-?\d)\s?\}?")
_TOKEN = re.compile(r"\s*(?:([a-zA-Z]+(?:\$)?)\.?|(/)|(\^-?\d))")
_SEPARATORS = re.compile(r"[-,\u00b7]|\\cdot(?![a-z])|\\times(?![a-z])")
_WORDS_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: `known` units with exponents, as {("km", 1), ("hr", -1)}, and other `words`, as {"apple"}."""

    known: frozenset[tuple[str, int]] = frozenset()
    words: frozenset[str] = frozenset()

    @property
    def is_stated(self) -> bool:
        """False for a number without a unit."""
        return bool(self.known or self.words)


NONE = Unit()


def parse_unit(text: str) -> Unit | None:
    """Return the unit of the text after a number, empty for words that name none; None if it is no unit."""
    in_text = TEXT_OPEN in text
    if not in_text and not (text[0].isalpha() or text.lstrip().startswith(("^", "\\frac", "°"))):
        return None
    plain = text.replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    if plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1]
    if plain.rstrip(".") == "in":
        return Unit(known=frozenset({("in", 1)}))
    plain = _CIRC.sub(lambda circ: f" deg{(circ[1] or '').lower()} ", plain)
    if description := _DESCRIPTION.search(f" {plain}"):
        if _DOUBT.search(description[0]):
            return None
        plain = f" {plain}"[: description.start()].strip()
    plain = _POWER.sub(r"^\1 ", _FRACTION.sub(r" \1 / \2 ", plain))
    return _read(_SEPARATORS.sub(" ", plain), in_text)


def _read(plain: str, in_text: bool) -> Unit | None:
    known: dict[str, int] = {}
    words: set[str] = set()
    # `sign` is -1 in the denominator, `power` waits for the unit after "square", `last` takes a later exponent.
    at, sign, power, last = 0, 1, 1, ""
    plain = plain.strip()
    while at < len(plain):
        token = _TOKEN.match(plain, at)
        if token is None or len(words) > _WORDS_LIMIT:
            return None
        at = token.end()
        if token[2] or (token[1] and token[1].lower() == "per") or (token[1] in ("a", "an") and last):
            sign = -1
            continue
        if token[3]:
            if not last:
                if not words and not in_text:
                    return None
                continue
            known[last] = known[last] * int(token[3][1:])
            last = ""
            continue
        word = token[1].lower()
        if word in _POWERS:
            if word.endswith("d") and last:
                known[last] *= _POWERS[word]
            elif word.endswith("d"):
                return None  # "18 squared"
            else:
                power = _POWERS[word]
            continue
        if word in _NOT_UNITS:
            return None
        for part in _SPEEDS.get(word, word).split("/"):
            name = _KNOWN.get(part)
            is_bare_letter = not in_text and (part in _ONLY_IN_TEXT or len(part) == 1)
            if name is not None and not (is_bare_letter and not known):
                last = _CANONICAL.get(name, name)
                known[last] = known.get(last, 0) + sign * power
                power = 1
                sign = -1 if "/" in _SPEEDS.get(word, "") and sign == 1 else sign
            elif part in _EMPTY and (in_text or len(part) > 1):
                last = ""
            elif len(part) == 1 or (len(part) == 2 and not in_text):
                return None  # a variable, or a product of two
            else:
                words.add(_singular(part))
                last = ""
    return Unit(frozenset(known.items()), frozenset(words))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def same_unit(reference: Unit, answer: Unit, convention: str) -> bool:
    """Whether the answer's unit agrees with the reference's.

    `convention`: "optional" accepts an answer without a unit, "required" does not, "ignored" accepts any unit.
    """
    if convention == "ignored" or not reference.is_stated:
        return True
    if not answer.is_stated:
        return convention == "optional"
    if reference.known and answer.known:
        # Degrees agree with degrees Celsius and Fahrenheit.
        degrees = {frozenset({("deg", 1)})}
        if {reference.known, answer.known} & degrees:
            return all(name.startswith("deg") for name, _ in reference.known | answer.known)
        return reference.known == answer.known
    if reference.known or answer.known:
        return bool(reference.words & answer.words)
    return reference.words <= answer.words or answer.words <= reference.words
