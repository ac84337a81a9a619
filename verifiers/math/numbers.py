"""Parses numerals and numbers in words exactly: commas, percent, mixed numbers, exponents, scales, units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from verifiers.math.conventions import DEFAULT, Conventions
from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN
from verifiers.math.units import NONE, Unit, parse_unit, same_unit

_ONES_TEXT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS_TEXT = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_ONES = {word: value for value, word in enumerate(_ONES_TEXT.split())}
_TENS = {word: 20 + 10 * i for i, word in enumerate(_TENS_TEXT.split())}
_BIG_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4} | {
    word + plural: value for value, word in enumerate(_ORDINALS_TEXT.split()) if value > 2 for plural in ("", "s")
}
ORDINALS = {word: value for value, word in enumerate(_ORDINALS_TEXT.split())}
_STARTS = frozenset({*_ONES, *_TENS})


def _read_number(words: list[str]) -> tuple[Fraction, int] | None:
    """Return (the number that the first words state, how many words it takes), or None."""
    if not words or words[0] not in _STARTS:
        return None
    total, below, used = 0, 0, 0
    for i, word in enumerate(words):
        after_tens = i > 0 and words[i - 1] in _TENS
        after_number = i > 0 and (words[i - 1] in _ONES or after_tens)
        if word in _ONES and (not after_number or (after_tens and 0 < _ONES[word] < 10)):
            below += _ONES[word]
        elif word in _TENS and not after_number:
            below += _TENS[word]
        elif word == "hundred" and 0 < below < 100:
            below *= 100
        elif word in _BIG_SCALES and below:
            total, below = total + below * _BIG_SCALES[word], 0
        elif (
            word == "and"
            and words[i - 1] in ("hundred", *_BIG_SCALES)
            and i + 1 < len(words)
            and words[i + 1] in _STARTS
        ):
            continue
        else:
            break
        used = i + 1
    value = Fraction(total + below)
    if used < len(words) and 0 < value < 20:
        # "three quarters" and "one third" are fractions; "two third" is not, and "twenty third" is an ordinal.
        part, is_plural = words[used], words[used].endswith("s")
        if part in _PARTS and is_plural == (value != 1):
            return value / _PARTS[part], used + 1
    return value, used


# Characters. Longer texts are not read as numerals, because int() of many digits takes quadratic time.
_DIGITS_LIMIT = 400
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
_PLAIN = re.compile(r"(-?\d{1,15})(?:\.(\d{1,15}))?")
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s?\\frac\s?(?:\{\s?(?P<num>[-+]?\d+(?:\.\d+)?)\s?\}|(?P<num1>\d))\s?"
    r"(?:\{\s?(?P<den>[-+]?\d+(?:\.\d+)?)\s?\}|(?P<den1>\d))(?P<rest>.*)",
    re.DOTALL,
)
_SCALES = {"hundred": 100, "dozen": 12, **_BIG_SCALES}
_REPEATING = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d{0,20})\.(?P<start>\d{0,40})\\(?:overline|bar|dot|overbar)\s?\{?(?P<cycle>\d{1,20})\}?(?P<rest>.*)",
    re.DOTALL,
)
_ENDLESS = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d{0,20})\.(?P<start>\d{0,40}?)(?P<cycle>\d)(?P=cycle){2,}\.\.\.(?P<rest>)"
)
_ASIDE = re.compile(r"\((?=[^()]*[a-zA-Z]{3})[^()\\=+*/^]*\)")
_SCALE = re.compile(rf"({'|'.join(_SCALES)})(?![a-zA-Z])", re.IGNORECASE)
_MINUS_WORD = re.compile(r"(?:negative|minus) (?=[\w.\\])", re.IGNORECASE)
_IN_TEXT = re.compile(rf"{TEXT_OPEN}\s*([-+]?[\d.,/]+(?:\s?%)?)\s*([^{TEXT_CLOSE}]*){TEXT_CLOSE}$")


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it is written. For "12.50%" the value is 1/8."""

    value: Fraction
    is_percent: bool = False
    unit: Unit = NONE
    places: int = 0  # decimals of the value as written
    digits: int = 0  # significant digits as written


def parse_numeral(text: str) -> Numeral | None:
    """Return the number of a cleaned text; None where the text is not just one numeral, perhaps with a unit."""
    if plain := _PLAIN.fullmatch(text):
        decimals = plain[2] or ""
        value = Fraction(int(plain[1] + decimals), 10 ** len(decimals))
        return Numeral(value, False, NONE, len(decimals), len((plain[1] + decimals).lstrip("-0")))
    if len(text) > _DIGITS_LIMIT or not text:
        return None
    text = _unwrapped(text)
    if "..." in text or "\\" in text:
        match = _REPEATING.match(text) or _ENDLESS.fullmatch(text)
        if match is not None:
            return _repeating(match)
        match = _FRACTION.match(text)
    else:
        match = None
    if match is not None:
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


def _repeating(match: re.Match[str]) -> Numeral | None:
    r"""Return the value of a repeating decimal: 0.1\overline{6} is one sixth."""
    # 0.(start)(cycle): a cycle of n digits is cycle / (10^n - 1), shifted behind the start.
    start, cycle = match["start"], match["cycle"]
    shift = 10 ** len(start)
    value = Fraction(int(match["whole"] or "0")) + Fraction(int(start or "0"), shift)
    value += Fraction(int(cycle), shift * (10 ** len(cycle) - 1))
    return _with_rest(-value if match["sign"] == "-" else value, match["rest"], 0, 0)


def _unwrapped(text: str) -> str:
    while len(text) > 2 and text[0] in "{(" and text[-1] == {"{": "}", "(": ")"}[text[0]]:
        if any(bracket in text[1:-1] for bracket in "(){}"):
            break
        text = text[1:-1].strip()
    if text.startswith(TEXT_OPEN) and (match := _IN_TEXT.match(text)):
        # \text{5 m} becomes 5\text{ m}
        text = f"{match[1]} {TEXT_OPEN}{match[2]}{TEXT_CLOSE}" if match[2] else match[1]
    if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return _MINUS_WORD.sub("-", text.strip())


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
    """Return a number with the percent sign, scale word and unit of `rest`; None if anything else follows it."""
    rest = rest.strip()
    is_percent = rest.startswith("%")
    if is_percent:
        rest = rest[1:].strip()
        value, places = value / 100, places + 2
    if not rest or _ASIDE.fullmatch(rest):  # "3 (1 white, 2 blue)"
        return Numeral(value, is_percent, NONE, places, digits)
    plain = rest.strip(TEXT_OPEN + " ")
    while (scale := _SCALE.match(plain)) and not is_percent:
        value, places = value * _SCALES[scale[1].lower()], 0
        plain = plain[scale.end() :].lstrip()
        rest = TEXT_OPEN + plain if TEXT_CLOSE in plain else plain
    if not rest.strip(TEXT_OPEN + TEXT_CLOSE + " "):
        return Numeral(value, is_percent, NONE, places, digits)
    unit = parse_unit(rest)
    return None if unit is None else Numeral(value, is_percent, unit, places, digits)


def _from_words(text: str) -> Numeral | None:
    words = text.lower().replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").replace("-", " ").split()
    found = _read_number(words[:20])
    if found is None:
        return None
    value, used = found
    return _with_rest(value, " ".join(words[used:]), 0, 0)


def is_rounding(decimal: Numeral, exact: Fraction, places: int) -> bool:
    """Whether `decimal` rounds a value that has no finite decimals, by the rule of `gives`."""
    return gives(decimal, exact, places) and not _terminates(exact)


def gives(decimal: Numeral, exact: Fraction, places: int) -> bool:
    """Whether `decimal` is `exact` rounded or cut to its own places, of which and of digits it has at least `places`.

    Never with `places` 0.
    """
    if not places or decimal.places < places or decimal.digits < places:
        return False
    unit = Fraction(1, 10**decimal.places)
    is_cut = abs(decimal.value) <= abs(exact) and abs(decimal.value - exact) < unit
    return is_cut or abs(decimal.value - exact) <= unit / 2


def _terminates(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def same_number(reference: Numeral, answer: Numeral, rules: Conventions = DEFAULT) -> bool:
    """Whether two numbers are equal: exactly, up to a percent sign, or as a decimal that rounds a fraction."""
    if not same_unit(reference.unit, answer.unit, rules.units):
        return False
    if reference.value == answer.value:
        return True
    if rules.percent and answer.is_percent != reference.is_percent:
        bare = answer.value * 100 if answer.is_percent else answer.value / 100
        if reference.value == bare:
            return True
    return is_rounding(answer, reference.value, rules.decimals) or is_rounding(reference, answer.value, rules.decimals)
