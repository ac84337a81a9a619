"""Answers that compare as written: number bases, clock times, ratios, ordinals, words."""

from __future__ import annotations

import re

from verifiers.latex import TEXT_CLOSE, TEXT_OPEN, squeeze
from verifiers.words import ORDINALS

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
    r"""Plain words, or all of it inside \text{}: no expression to evaluate."""
    if text.startswith(TEXT_OPEN) and text.endswith(TEXT_CLOSE) and text.count(TEXT_OPEN) == 1:
        return True
    bare = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    has_word = re.search(r"[A-Za-z]{3}", bare) is not None or bare.casefold() in ("no", "up")
    return has_word and re.fullmatch(r"[A-Za-z][A-Za-z' -]*", bare) is not None


def same_words(reference: str, answer: str, *, case: bool) -> bool:
    """Whether two texts say the same words; an article, quotes and a plural's s change nothing."""
    return _words_key(reference, case) == _words_key(answer, case)


def _words_key(text: str, case: bool) -> str:
    bare = text.replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")
    bare = " ".join(bare.split()).strip("'\" .") if case else " ".join(bare.casefold().split()).strip("'\" .")
    bare = squeeze(_ARTICLE.sub("", bare))
    return bare[:-1] if len(bare) > 4 and bare[-1:] == "s" and bare[-2:] != "ss" else bare


def same_written(reference: str, answer: str) -> bool | None:
    """Compare two cleaned answers of which one is such a form; None if neither is."""
    left, right = squeeze(reference), squeeze(answer)
    for read in (_clock, _base, _ratio, _ordinal):
        first, second = read(left), read(right)
        if first is not None and second is not None:
            return _same_clock(first, second) if read is _clock else first == second
        if first is not None or second is not None:
            # "n = 204_5" is an equation first.
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
