"""Compares answers as written: number bases, clock times, ratios, ordinals, words, intervals."""

from __future__ import annotations

import re

from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN, squeeze
from verifiers.math.numbers import ORDINALS

# "204_5" or "(204)_{five}"; "3:30 p.m." or "15:30"; "2:3:4"; "21st" or "21^{st}".
_BASE = re.compile(r"\(?([0-9A-F]+)\)?_(\d{1,2}|[a-z]{3,7})")
_BASE_WORDS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
_CLOCK = re.compile(r"0?(\d{1,2})(?::(\d{2}))?([ap])\.?m\.?|0?(\d{1,2}):(\d{2})", re.IGNORECASE)
_RATIO = re.compile(r"[\d.]+(?::[\d.]+)+")
_ORDINAL = re.compile(r"(\d{1,6})\^?\{?(?:st|nd|rd|th)\}?", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the) ")
_ALL_REALS = frozenset(
    {
        "\\mathbb{R}",
        "\\mathbb R",
        "\\mathbbR",
        "(-\\infty,\\infty)",
        "(-\\infty,+\\infty)",
        "allrealnumbers",
        "allreals",
    }
)
_MEMBER = re.compile(r"^[a-zA-Z]\\in ?")
_NOTHING = frozenset({"\\emptyset", "\\{\\}"})


def is_words(text: str) -> bool:
    r"""Whether a cleaned answer is plain words, or all of it is inside \text{}, and so is no expression."""
    if text.startswith(TEXT_OPEN) and text.endswith(TEXT_CLOSE) and text.count(TEXT_OPEN) == 1:
        return True
    bare = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    has_word = re.search(r"[A-Za-z]{3}", bare) is not None or bare.casefold() in ("no", "up")
    return has_word and re.fullmatch(r"[A-Za-z][A-Za-z' -]*", bare) is not None


def same_words(reference: str, answer: str, *, case: bool) -> bool:
    """Whether two answers are the same words, up to an article, quotes, a plural's s, and (without `case`) case."""
    return _words_key(reference, case) == _words_key(answer, case)


def _words_key(text: str, case: bool) -> str:
    bare = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    bare = " ".join(bare.split()).strip("'\" .") if case else " ".join(bare.casefold().split()).strip("'\" .")
    bare = squeeze(_ARTICLE.sub("", bare))
    return bare[:-1] if len(bare) > 4 and bare[-1:] == "s" and bare[-2:] != "ss" else bare


def same_written(reference: str, answer: str) -> bool | None:
    """Compare two cleaned answers as clock times, numbers in a base, ratios, ordinals or named sets.

    None where neither is of such a form. Where one is and the other is not, they differ.
    """
    left, right = squeeze(reference), squeeze(answer)
    for read in (_clock, _base, _ratio, _ordinal):
        first, second = read(left), read(right)
        if first is not None and second is not None:
            return _same_clock(first, second) if read is _clock else first == second
        if first is not None or second is not None:
            # "n = 204_5" is an equation, whose sides are compared here later.
            return None if "=" in left or "=" in right else False
    reals = [_MEMBER.sub("", side) in _ALL_REALS or side.casefold() in _ALL_REALS for side in (left, right)]
    if any(reals):
        return all(reals)
    if left in _NOTHING or right in _NOTHING:
        return left in _NOTHING and right in _NOTHING
    return None


def _clock(text: str) -> tuple[str, ...] | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    return (match[1] or match[4], match[2] or match[5] or "00", (match[3] or "").lower())


def _same_clock(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    return first[:2] == second[:2] and (first[2] == second[2] or not first[2] or not second[2])


def _base(text: str) -> tuple[str, ...] | None:
    match = _BASE.fullmatch(text.replace("{", "").replace("}", ""))
    return (match[1], _BASE_WORDS.get(match[2], match[2])) if match else None


def _ratio(text: str) -> tuple[str, ...] | None:
    return tuple(text.split(":")) if _RATIO.fullmatch(text) else None


def _ordinal(text: str) -> tuple[str, ...] | None:
    if match := _ORDINAL.fullmatch(text):
        return (match[1],)
    return (str(ORDINALS[text.casefold()]),) if text.casefold() in ORDINALS else None


# Ranges: an inequality's signs, "x < 1 or x > 3", "x > 1 and x < 3", "x \in (1, 3)", "\{x | x > 1\}".
_RELATION = re.compile(r"<=|>=|\\le(?![a-z])|\\ge(?![a-z])|<|>")
_OR = re.compile(rf"{TEXT_OPEN}\s?or\s?{TEXT_CLOSE}|\sor\s|\\lor(?![a-z])")
_AND = re.compile(rf"{TEXT_OPEN}\s?and\s?{TEXT_CLOSE}|\sand\s")
_BELONGS = re.compile(r"^\s*([a-zA-Z])\s?\\in\s?(?=[(\[])")
_BUILDER = re.compile(r"^\\\{\s?([a-zA-Z])\s?(?:\\in\s?\\mathbb\s?\{?\s?R\s?\}?\s?)?[|:,]\s?(.*)\\\}$")
_NAME = re.compile(r"[a-zA-Z]")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "\\le": "\\ge", "\\ge": "\\le"}


def is_range(text: str) -> bool:
    """Whether a cleaned text states an interval, a union or an inequality."""
    opening, closing = text[:1], text[-1:]
    is_half_open = (opening == "(" and closing == "]") or (opening == "[" and closing == ")")
    return is_half_open or "\\cup" in text or _RELATION.search(text) is not None


def unknown_of(text: str) -> str | None:
    """Return the letter that an inequality bounds; None where it is not one letter."""
    text = _BUILDER.sub(r"\2", text.strip())
    if match := _BELONGS.match(text):
        return match[1]
    letters = {term.strip() for term in _RELATION.split(text) if _NAME.fullmatch(term.strip())}
    return letters.pop() if len(letters) == 1 and _RELATION.search(text) else None


def pieces(text: str) -> list[str] | None:
    r"""Return the intervals of a union, or of an inequality ("x > 3" is "(3, \infty)"); None for anything else."""
    if len(choices := _OR.split(text)) > 1:
        ranges = [pieces(choice) for choice in choices]
        return None if None in ranges else [piece for found in ranges if found for piece in found]
    if len(both := _AND.split(text)) == 2 and (merged := _intersection(*both)) is not None:
        return [merged]
    text = _BUILDER.sub(r"\2", _BELONGS.sub("", text.strip()))
    opens = text[:1] in ("(", "[") and text[-1:] in (")", "]")
    if "\\cup" in text or (opens and not _RELATION.search(text)):
        return [
            part.strip().replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty") for part in text.split("\\cup")
        ]
    signs = [sign[0] for sign in _RELATION.finditer(text)]
    terms = [term.strip() for term in _RELATION.split(text)]
    # "x > 3" has one sign, "1 < x <= 3" two in the same direction; the latter is turned so that it ascends.
    if len(signs) == 1:
        return _one_sided(terms, signs[0])
    if len(signs) == 2 and _NAME.fullmatch(terms[1]) and _is_less(signs[0]) == _is_less(signs[1]):
        if not _is_less(signs[0]):
            terms, signs = terms[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
        return [f"{'[' if _is_closed(signs[0]) else '('}{terms[0]}, {terms[2]}{']' if _is_closed(signs[1]) else ')'}"]
    return None


def _one_sided(terms: list[str], sign: str) -> list[str] | None:
    if _NAME.fullmatch(terms[1]) and not _NAME.fullmatch(terms[0]):
        terms, sign = [terms[1], terms[0]], _FLIPPED[sign]
    if not _NAME.fullmatch(terms[0]) or not terms[1]:
        return None
    if _is_less(sign):
        return [f"(-\\infty, {terms[1]}{']' if _is_closed(sign) else ')'}"]
    return [f"{'[' if _is_closed(sign) else '('}{terms[1]}, \\infty)"]


def _intersection(first: str, second: str) -> str | None:
    """Return the interval of "x > 1 and x < 3", where one side bounds x from below and the other from above."""
    if unknown_of(first) != unknown_of(second) or unknown_of(first) is None:
        return None
    low, high = pieces(first), pieces(second)
    if low is None or high is None or len(low) != 1 or len(high) != 1:
        return None
    if low[0].startswith("(-\\infty"):
        low, high = high, low
    if not low[0].endswith("\\infty)") or not high[0].startswith("(-\\infty,"):
        return None
    return f"{low[0].rpartition(',')[0]}, {high[0].partition(',')[2].strip()}"


def _is_less(sign: str) -> bool:
    return sign[0] == "<" or sign == "\\le"


def _is_closed(sign: str) -> bool:
    return "=" in sign or "e" in sign
