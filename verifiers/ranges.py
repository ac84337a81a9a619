"""Intervals, their unions, and inequalities in one unknown, all as intervals in text."""

from __future__ import annotations

import re

from verifiers.latex import TEXT_CLOSE, TEXT_OPEN

_RELATION = re.compile(r"<=|>=|\\le(?![a-z])|\\ge(?![a-z])|<|>")
_OR = re.compile(rf"{TEXT_OPEN}\s?or\s?{TEXT_CLOSE}|\sor\s|\\lor(?![a-z])")
_AND = re.compile(rf"{TEXT_OPEN}\s?and\s?{TEXT_CLOSE}|\sand\s")
_MEMBER = re.compile(r"^\s*([a-zA-Z])\s?\\in\s?(?=[(\[])")
_BUILDER = re.compile(r"^\\\{\s?([a-zA-Z])\s?(?:\\in\s?\\mathbb\s?\{?\s?R\s?\}?\s?)?[|:,]\s?(.*)\\\}$")
_NAME = re.compile(r"[a-zA-Z]")
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "\\le": "\\ge", "\\ge": "\\le"}


def is_range(text: str) -> bool:
    """Whether a cleaned text states an interval, a union or an inequality."""
    opening, closing = text[:1], text[-1:]
    is_half_open = (opening == "(" and closing == "]") or (opening == "[" and closing == ")")
    return is_half_open or "\\cup" in text or _RELATION.search(text) is not None


def unknown_of(text: str) -> str | None:
    """Return the one letter that an inequality is about."""
    text = _BUILDER.sub(r"\2", text.strip())
    if match := _MEMBER.match(text):
        return match[1]
    letters = {term.strip() for term in _RELATION.split(text) if _NAME.fullmatch(term.strip())}
    return letters.pop() if len(letters) == 1 and _RELATION.search(text) else None


def pieces(text: str) -> list[str] | None:
    r"""Return the intervals of a union, an inequality as its interval; None for anything else."""
    if len(choices := _OR.split(text)) > 1:
        ranges = [pieces(choice) for choice in choices]
        return None if None in ranges else [piece for found in ranges if found for piece in found]
    if len(both := _AND.split(text)) == 2 and (merged := _intersection(*both)) is not None:
        return [merged]
    text = _BUILDER.sub(r"\2", _MEMBER.sub("", text.strip()))
    opens = text[:1] in ("(", "[") and text[-1:] in (")", "]")
    if "\\cup" in text or (opens and not _RELATION.search(text)):
        return [
            part.strip().replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty") for part in text.split("\\cup")
        ]
    signs = [sign[0] for sign in _RELATION.finditer(text)]
    terms = [term.strip() for term in _RELATION.split(text)]
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
    """Return the interval of "x > 1 and x < 3", if the two sides bound it from below and from above."""
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
