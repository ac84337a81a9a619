"""The verifier `choice`: the answer to a multiple-choice question, by letter or by the text of an option."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from verifiers.extraction.answer import extract, visible
from verifiers.math.latex import TEXT_CLOSE, TEXT_OPEN, clean
from verifiers.registry import register
from verifiers.types import Verdict

_LETTER = re.compile(
    r"\s*(?:option|choice|answer)?\s*[(\[]?\s*([A-Za-z])\s*(?:[)\].:]\s*(.*)|\s*)", re.DOTALL | re.IGNORECASE
)

# In a text they enclose the letter of an option, in place of the option's text. Private-use characters of Unicode.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_LETTERS = re.compile(r"(?<![\w'])(?:\(?([A-J])\)?|\(([a-j])\))(?![\w'])")
_NOT_THE_OTHER = re.compile(
    rf",\s(?:and\s|but\s)?not\s(?:option\s|choice\s)?(?:\(?[A-J]\)?(?!\w)|{_OPEN}[^{_CLOSE}]*{_CLOSE})"
)
_AFTERTHOUGHT = re.compile(r",?\s(?:because|since|which|where|as)\s")
_HEDGED = "?"  # in a set of chosen letters: the answer is ambiguous
# The text of an option that is one of these words is not replaced by its letter, because extraction needs the word.
_MARKER_WORDS_TEXT = (
    "answer correct right result option choice is are not or and boxed text question problem exercise human user input "
    "instruction example q think"
)
_MARKER_WORDS = frozenset(_MARKER_WORDS_TEXT.split())


def letter_of(text: str) -> str | None:
    """Return the letter that a cleaned answer chooses, as in "C", "(C)", "C) 12" or "option C"; else None."""
    match = _LETTER.fullmatch(text)
    if match is None or (match[1].islower() and match[2]):
        return None
    # "A, B" or "(A) or (B)" chooses nothing.
    return (
        None
        if match[2] and re.search(r"(?:^|\b(?:or|and)\b|,)\s*[(\[]?[A-J][)\]]?\s*$", match[2])
        else match[1].upper()
    )


def _reference_problem(reference: Any) -> str | None:
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
    reference_problem=_reference_problem,
)
def choice(completion: str, reference: Any) -> Verdict:
    """The chosen letter is the reference's. Where the reference lists the options, their text is an answer too.

    A reference is a letter, or `{"answer": "B", "options": {"A": "desert", "B": "ocean"}}`.
    """
    letter, options = _read(reference)
    if letter is None or _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    chosen = _chosen(completion, options)
    if not chosen:
        return Verdict.incorrect("no_answer")
    if len(chosen) > 1:
        return Verdict.incorrect("ambiguous", ", ".join(sorted(chosen - {_HEDGED})) or None)
    (answer,) = chosen
    return Verdict.correct(answer) if answer == letter else Verdict.incorrect("mismatch", answer)


# An answer without a marker is at most this many characters long, and one line.
_LENGTH_WITHOUT_MARKER = 200


def _chosen(completion: str, options: Mapping[str, str]) -> frozenset[str]:
    """Return the letters that the final answer names, by letter or by text; a single one is a choice."""
    text = visible(completion)
    if text is None:
        return frozenset()
    if options:
        text = _marked(text, options, spare=_MARKER_WORDS)
    text = _NOT_THE_OTHER.sub("", text)
    found = extract(text)
    if found.reason == "ambiguous":
        return frozenset([_HEDGED, ""])
    answer = found.answer
    if answer is None:
        answer = text.strip()
        if len(answer) > _LENGTH_WITHOUT_MARKER or "\n" in answer:
            return frozenset()
    answer = _marked(answer, options) if options else answer
    answer = clean(answer).replace(TEXT_OPEN, " ").replace(TEXT_CLOSE, " ").strip()
    return _named(_AFTERTHOUGHT.split(answer, maxsplit=1)[0].strip(), options)


def _marked(text: str, options: Mapping[str, str], *, spare: frozenset[str] = frozenset()) -> str:
    """Replace the texts of options by their marked letters, so that no word of them is read as something else."""
    pattern, letters = _pattern_of(tuple(options.items()), spare)
    # The first pass (with `spare`) removes such characters that the model itself wrote.
    text = text.replace(_OPEN, "").replace(_CLOSE, "") if spare else text
    return pattern.sub(lambda match: f"{_OPEN}{letters[_folded(match[1])]}{_CLOSE}", text) if letters else text


@functools.lru_cache(maxsize=4096)
def _pattern_of(options: tuple[tuple[str, str], ...], spare: frozenset[str]) -> tuple[re.Pattern[str], dict[str, str]]:
    folded = {_folded(text): letter for letter, text in options}
    letters = {text: letter for text, letter in folded.items() if len(text) > 1 and text not in spare}
    # The longest first: "marching band" is not "band".
    texts = sorted(letters, key=len, reverse=True)
    alternatives = "|".join(re.escape(text).replace(r"\ ", r"\s{1,3}") for text in texts)
    return re.compile(rf"(?<![\w-])(?<!\d[.,/])(?:(?:the|an?)\s)?({alternatives})(?![\w%])(?![.,/]\d)", re.I), letters


def _folded(text: str) -> str:
    folded = " ".join(text.casefold().split()).rstrip(".")
    return re.sub(r"^(?:the|an?) ", "", folded)


def _named(answer: str, options: Mapping[str, str]) -> frozenset[str]:
    by_text = frozenset(_MARK.findall(answer))
    rest = _MARK.sub(" ", answer).strip(" \"'`*")
    if not by_text and (letter := letter_of(rest)):
        return frozenset([letter] if not options or letter in options else [])
    if not by_text and (same := [key for key, text in options.items() if _folded(text) == _folded(rest)]):
        return frozenset(same[:1])
    # "A dog" and "I think" name no letter; neither does the article before an option's text, as in "A dog" for (C) dog.
    plainly = re.sub(r"^A (?!or\b|and\b)(?=[a-z])|\bI (?=[a-z])", "", rest)
    by_letter = frozenset(upper or lower.upper() for upper, lower in _LETTERS.findall(plainly))
    if options:
        by_letter &= options.keys()
    if by_text and by_letter == {"A"} and re.match(rf"(?:is )?A {_OPEN}", answer):
        by_letter = frozenset()
    if not by_text:
        is_one_of_several = not options and re.search(r"\w\s+(?:or|and)\s+(?:option\s)?\(?[A-J]\)?\W*$", plainly)
        return by_letter | {_HEDGED} if is_one_of_several and by_letter else by_letter
    if not by_letter and any(char.isdigit() for letter in by_text for char in options[letter]) and rest.strip(" .()"):
        return frozenset()  # "3 + x" is not the option "3"
    return by_text | by_letter
