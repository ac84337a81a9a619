"""The verifier `exact`: the answer is the reference's text, up to spaces and case."""

from __future__ import annotations

import unicodedata
from typing import Any

from verifiers.extraction.answer import extract, reference_answer, visible
from verifiers.registry import register
from verifiers.types import Verdict


def _reference_problem(reference: Any) -> str | None:
    if not isinstance(reference, str):
        return f"a reference must be text, not {type(reference).__name__}"
    return None if reference_answer(reference) else f"no final answer found in {reference!r:.80}"


@register(
    "exact",
    version="1",
    example=("The capital is <answer>Paris</answer>", "paris"),
    reference_problem=_reference_problem,
)
def exact(completion: str, reference: str, *, ignore_case: bool = True, whole: bool = False) -> Verdict:
    """The marked answer (or the whole text, without a marker) is the reference's text, up to space and case.

    `ignore_case`: upper and lower case are the same.
    `whole`: compare the whole visible completion even where an answer is marked.
    """
    if _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    found = None if whole else extract(completion)
    if found is not None and found.reason == "ambiguous":
        return Verdict.incorrect("ambiguous")
    answer = found.answer if found is not None and found.answer is not None else visible(completion)
    if answer is None or not answer.strip():
        return Verdict.incorrect("no_answer")
    expected = reference if whole else reference_answer(reference)
    left, right = (_plain(text, ignore_case) for text in (answer, expected))
    return Verdict.correct(answer) if left == right else Verdict.incorrect("mismatch", answer)


def _plain(text: str, ignore_case: bool) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split()).rstrip(".")
    return text.casefold() if ignore_case else text
