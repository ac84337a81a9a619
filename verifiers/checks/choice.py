"""Multiple choice: the letter decides, or the text of an option."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from verifiers.extract import extract, visible
from verifiers.latex import TEXT_CLOSE, TEXT_OPEN, clean
from verifiers.registry import register
from verifiers.types import Verdict

_LETTER = re.compile(
    r"\s*(?:option|choice|answer)?\s*[(\[]?\s*([A-Za-z])\s*(?:[)\].:]\s*(.*)|\s*)", re.DOTALL | re.IGNORECASE
)


def letter_of(text: str) -> str | None:
    """Return the letter that a cleaned answer chooses: "C", "(C)", "C) 12", "option C"; else None."""
    match = _LETTER.fullmatch(text)
    if match is None or (match[1].islower() and match[2]):
        return None
    # "A, B" or "(A) or (B)" chooses nothing.
    return (
        None
        if match[2] and re.search(r"(?:^|\b(?:or|and)\b|,)\s*[(\[]?[A-J][)\]]?\s*$", match[2])
        else match[1].upper()
    )


def reference_problem(reference: Any) -> str | None:
    letter, options = _read(reference)
    if letter is None:
        shape = "{'answer': letter, 'options': {letter: text}}"
        return f"a reference must be a letter or {shape}, not {reference!r:.80}"
    if options and letter not in options:
        return f"the answer {letter!r} is not among the options {', '.join(options)}"
    return None


def _read(reference: Any) -> tuple[str | None, dict[str, str]]:
    if isinstance(reference, str):
        return letter_of(clean(reference).replace(TEXT_OPEN, "").replace(TEXT_CLOSE, "")), {}
    if isinstance(reference, Mapping) and isinstance(reference.get("answer"), str):
        options = reference.get("options", {})
        if isinstance(options, Mapping):
            return reference["answer"].upper(), {str(key).upper(): str(text) for key, text in options.items()}
    return None, {}


@register(
    "choice",
    version="1",
    example=("Fish live in water, so the answer is (B).", "B"),
    reference_problem=reference_problem,
)
def choice(completion: str, reference: Any) -> Verdict:
    """The chosen letter is the reference's; the reference may name the options, then their text counts too.

    A reference is a letter, or `{"answer": "B", "options": {"A": "desert", "B": "ocean"}}`.
    """
    letter, options = _read(reference)
    if letter is None or reference_problem(reference) is not None:
        return Verdict("unknown", None, None, "bad_reference", "", "")
    chosen = _chosen(completion, options)
    if chosen is None:
        return Verdict("incorrect", 0.0, None, "no_answer", "", "")
    if len(chosen) > 1:
        return Verdict("incorrect", 0.0, ", ".join(sorted(chosen)), "ambiguous", "", "")
    (answer,) = chosen
    is_right = answer == letter
    return Verdict(
        "correct" if is_right else "incorrect",
        float(is_right),
        answer,
        "match" if is_right else "mismatch",
        "",
        "",
    )


def _chosen(completion: str, options: Mapping[str, str]) -> set[str] | None:
    """Return the letters that the final answer names, or None if it names none."""
    found = extract(completion)
    answer = found.answer
    if answer is None:
        text = visible(completion)
        if found.reason == "ambiguous" or text is None or len(text.strip()) > 200 or "\n" in text.strip():
            return set("AB") if found.reason == "ambiguous" else None
        answer = text
    answer = clean(answer).replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    if letter := letter_of(answer):
        return {letter} if not options or letter in options else None
    plain = answer.casefold()
    if by_text := {key for key, text in options.items() if text.casefold().strip() == plain}:
        return by_text
    # "A dog" and "I think" name no letter.
    plainly = re.sub(r"^A (?!or\b|and\b)(?=[a-z])|\bI (?=[a-z])", "", answer)
    named = set(re.findall(r"(?<![\w'])\(?([A-J])\)?(?![\w'])", plainly))
    if options:
        named &= set(options)
    return (
        named
        or {key for key, text in options.items() if re.search(rf"\b{re.escape(text.casefold())}\b", plain)}
        or None
    )
