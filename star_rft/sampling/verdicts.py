"""The rules for cut-off completions: the text that is judged, and the verdict `truncated`."""

from __future__ import annotations

import re
from dataclasses import replace

from verifiers.types import Verdict

_LAST_WORD = re.compile(r"\S+\Z")


def judged_text(text: str, finish_reason: str) -> str:
    """Leave out the last word of a completion that hit the token limit: `#### 1` may have been `#### 18`."""
    return _LAST_WORD.sub("", text) if finish_reason == "length" else text


def final_verdict(verdict: Verdict, finish_reason: str) -> Verdict:
    """Call a cut-off completion `truncated` unless it had answered correctly before it ran on."""
    if finish_reason == "length" and verdict.status == "incorrect":
        return replace(verdict, reason="truncated")
    return verdict
