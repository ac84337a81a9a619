r"""Finds marked answers: `#### x`, `\boxed{x}`, `<answer>x</answer>`, "the answer is x", "A: x".

Each kind of marker is searched by a word that it must contain, so that most of a text is skipped at the speed
of `str.find`. All patterns are bounded, so that the time is linear in the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["hash", "box", "tag", "prose", "line", "reverse"]
FORMAL = ("box", "hash", "tag")


class Marker(NamedTuple):
    """A marker's span in the text; its answer follows it, or for the kind "reverse" ("5 is the answer") precedes it."""

    start: int
    end: int
    kind: Kind


# All of these match text in lower case.
_HASH = re.compile(r"####(?!#)")
_BOX = re.compile(r"\\(?:boxed|fbox)\b[ ]{0,4}")
_TAG = re.compile(r"<answer>")
_PROSE = re.compile(
    r"(?:answer|result|(?:correct|right)[ ](?:option|choice))"
    r"(?:(?:[ ](?:to|of|for)[ ][^.\n:]{1,60}?)?[ ]{0,2}(?:\*\*)?[ ]{0,2}"
    r"(?:(?:is|are|equals|would[ ]be|must[ ]be|should[ ]be)\b(?![ ](?:that|clear|correct|in|reasonable)\b)|[:=])"
    r"[ ]{0,2}:?(?:\*\*)?"
    r"|\s{1,3}(?=\$|\\\(|\\\[))"
)
_HEADING = re.compile(r"(?:#{1,6}[ ]|\*\*)(?:the[ ])?(?:final[ ])?answer:?(?:\*\*)?:?[ ]{0,4}\n")
_LINE = re.compile(r"[ \t]{0,4}(?:\*\*)?(?:a|ans)(?:\*\*)?[ ]{0,2}:(?:\*\*)?")
_REVERSE = re.compile(r"[ ]is[ ]the[ ](?:final[ ]|correct[ ])?answer\b")
_PROSE_WORDS = ("answer", "result", "correct option", "correct choice", "right option", "right choice")
# Characters of "**Ans** :" with the spaces that `_LINE` allows in it.
_LINE_LENGTH = 14
_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def find_markers(text: str) -> list[Marker]:
    """Return the markers of a text in their order, without those that start inside another."""
    # Not str.lower, which changes the length of texts in some scripts, and so the positions.
    low = text.lower() if text.isascii() else text.translate(_LOWER)
    found = sorted(_all_markers(low), key=lambda marker: (marker.start, -marker.end))
    markers: list[Marker] = []
    for marker in found:
        if not markers or marker.start >= markers[-1].end:
            markers.append(marker)
    return markers


def _all_markers(low: str) -> Iterator[Marker]:
    if "####" in low:
        yield from (Marker(*match.span(), "hash") for match in _HASH.finditer(low))
    if "box" in low:
        yield from (Marker(*match.span(), "box") for match in _BOX.finditer(low))
    if "<answer>" in low:
        yield from (Marker(*match.span(), "tag") for match in _TAG.finditer(low))
    for word in _PROSE_WORDS:
        for at in _positions(low, word):
            is_word = at == 0 or not (low[at - 1].isalnum() or low[at - 1] == "_")
            match = _PROSE.match(low, at) if is_word else None
            if match is None and word == "answer":
                match = _HEADING.match(low, max(low.rfind("\n", max(0, at - 17), at) + 1, at - 16, 0))
            if match is not None:
                yield Marker(*match.span(), "prose")
    for at in _positions(low, ":"):
        if at and low[at - 1] in "as* ":
            start = low.rfind("\n", max(0, at - _LINE_LENGTH), at) + 1
            if (start or at <= _LINE_LENGTH) and (match := _LINE.match(low, start)):
                yield Marker(*match.span(), "line")
    for at in _positions(low, " is the "):
        if match := _REVERSE.match(low, at):
            yield Marker(*match.span(), "reverse")


def _positions(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)
