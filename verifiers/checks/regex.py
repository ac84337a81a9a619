"""The verifier `regex`: the completion matches a pattern."""

from __future__ import annotations

import functools
import re
from typing import Any

from verifiers.extraction.answer import visible
from verifiers.registry import register
from verifiers.types import Verdict


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError):
        return None


def _reference_problem(reference: Any) -> str | None:
    if not isinstance(reference, str):
        return f"a reference must be a pattern, not {type(reference).__name__}"
    return None if _compiled(reference, False) else f"{reference!r:.80} is not a regular expression"


@register(
    "regex",
    version="1",
    example=("The code is ab-12.", r"\b[a-z]{2}-\d{2}\b"),
    reference_problem=_reference_problem,
)
def regex(completion: str, reference: str, *, full: bool = False, ignore_case: bool = False) -> Verdict:
    """The reference is a regular expression that matches somewhere in the completion.

    `full`: it must match all of the completion, apart from spaces around it.
    `ignore_case`: upper and lower case are the same.

    Python's `re` may backtrack without end: use `verify_many`, whose workers are killed at the time limit.
    """
    if _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    pattern = _compiled(reference, ignore_case)
    assert pattern is not None
    text = visible(completion)
    if text is None or not text.strip():
        return Verdict.incorrect("no_answer")
    found = pattern.fullmatch(text.strip()) if full else pattern.search(text)
    if found is None:
        return Verdict.incorrect("mismatch")
    return Verdict.correct(found[0])
