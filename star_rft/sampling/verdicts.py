"""Verdicts of completions that hit the token limit: the text that is judged, and the reason `truncated`."""

from __future__ import annotations

import re
from dataclasses import replace

from verifiers.types import Verdict

_LAST_WORD = re.compile(r"\S+\Z")


def judged_text(text: str, finish_reason: str) -> str:
    """Leave out the last word of a completion that hit the token limit: `#### 1` may have been `#### 18`."""
    return _LAST_WORD.sub("", text) if finish_reason == "length" else text


def final_verdict(verdict: Verdict, finish_reason: str) -> Verdict:
    """Return the verdict of a completion: `truncated` is the reason where it was cut off before a correct answer."""
    if finish_reason == "length" and verdict.status == "incorrect":
        return replace(verdict, reason="truncated")
    return verdict
