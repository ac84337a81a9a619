"""Dedup keys: two traces with one key say the same thing. They are computed once, when a trace is verified."""

from __future__ import annotations

import re

from star_rft.types import digest

KEY_VERSION = 1

_ANNOTATION = re.compile(r"<<([^<>\n]{1,200}?=[^<>\n]{1,100}?)>>")
# Possessive and bounded everywhere: a search costs a bounded amount at each position, so texts cost linear time.
_NUMBER = r"\$?(?<![\d.,])\d[\d,]{0,20}+(?:\.\d{1,20}+)?+%?+"
_OPERAND = rf"\(?+ ?+{_NUMBER} ?+\)?+"
_PLAIN = re.compile(rf"{_OPERAND}(?: ?+(?:[-+*/×÷−x]|\\times|\\div) ?+{_OPERAND}){{1,12}}+ ?+= ?+{_NUMBER}")
_SAME = str.maketrans({"×": "*", "÷": "/", "−": "-", "x": "*", "$": None, ",": None})
_SPACE = re.compile(r"\s+")


def equations(text: str) -> list[str]:
    """Return the equations of a chain of thought in order, without white space.

    RFT's key (2308.01825, section 3.3) is the list of `<<a*b=c>>` annotations; a text without any is read for
    plain `a * b = c`.
    """
    found = _ANNOTATION.findall(text) or _PLAIN.findall(text)
    return [_SPACE.sub("", e.replace("\\times", "*").replace("\\div", "/").translate(_SAME)) for e in found]


def normalised(text: str) -> str:
    return _SPACE.sub(" ", text).strip().casefold()


def text_key(text: str) -> str:
    return digest("text", normalised(text))


def equation_key(text: str) -> str:
    """A trace without equations falls back to its text: an empty list must never be a key that many share."""
    found = equations(text)
    return digest("equations", found) if found else text_key(text)
