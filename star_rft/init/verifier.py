"""Proposes a verifier for the references, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import verifiers
from star_rft.data.problems import BAD_SHARE_LIMIT
from star_rft.data.readers import DataError
from star_rft.errors import UserError
from verifiers.extraction.answer import reference_answer

# What an answer is, by which a prompt says how to give it.
Kind = Literal["number", "latex", "letter", "program", "json", "text", "other"]
MOSTLY = 0.9  # share of references that must be of a kind
LONG_WORDS = 12  # words of a reference, on average, from which references are long texts

_NUMBER = re.compile(r"[-+]?\s?\\?\$?\s?[-+]?(\d[\d,]*(\.\d+)?|\.\d+)(\s?/\s?\d+)?\s?\\?%?")
_WITH_UNIT = re.compile(_NUMBER.pattern + r"\s?[A-Za-z°]{1,12}([/ ^][A-Za-z0-9]{1,8})?")
_LATEX = re.compile(r"\\[a-zA-Z]+|[\^_]\{?\w|\$[^$]+\$")
# What formulas consist of. Dates and times have digits too, and are no formulas.
_FORMULA = re.compile(
    r"(?:(?:sin|cos|tan|log|ln|exp|sqrt|pi|inf|and|or)\b|[a-zA-Z](?![a-zA-Z])|[\d\s+\-*/=<>().,\[\]{}|!^∞π±≤≥√])+"
)
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}(:\d{2})?")
_LETTER = re.compile(r"\(?[A-Ja-j][).]?")


@dataclass(frozen=True, slots=True)
class VerifierProposal:
    """A verifier for some references with the reason; `name` is None where no program can judge answers to them."""

    name: str | None
    kind: Kind
    why: str


def answer_of(reference: Any) -> str:
    """Return the answer in a reference as the verifiers read it: the marked answer of a text, else the whole text."""
    if isinstance(reference, dict) and "tests" in reference:
        return str(reference["tests"])
    if isinstance(reference, dict) and "cases" in reference:
        return "; ".join(f"{case['stdin']!r} gives {case['stdout']!r}" for case in reference["cases"])
    return reference_answer(reference) if isinstance(reference, str) else str(reference)


def propose(references: Sequence[Any]) -> VerifierProposal:
    """Return the verifier that can read the references."""
    texts = [reference for reference in references if isinstance(reference, str)]
    if len(texts) < len(references):
        return _of_objects([reference for reference in references if not isinstance(reference, str)], len(references))
    answers = [answer_of(text) for text in texts]
    for name, kind, is_one, what in _KINDS:
        fitting = sum(is_one(answer) for answer in answers)
        if fitting >= MOSTLY * len(answers):
            return VerifierProposal(name, kind, f"{_count(fitting, len(answers))} references are {what}")
    for name in ("code", "json_schema"):
        if all(_problem(name, text) is None and text.lstrip().startswith("{") for text in texts):
            return _of_objects(texts, len(texts))
    if sum(len(answer.split()) for answer in answers) > LONG_WORDS * len(answers):
        return VerifierProposal("exact", "text", "they are long texts, which hardly any answer equals word for word")
    return VerifierProposal("exact", "text", "the references are words, which are compared as text")


def kind_for(verifier: str, proposed: VerifierProposal) -> Kind:
    """Return the kind of answer of a verifier, which may be another than the proposed one."""
    kinds: dict[str, Kind] = {"choice": "letter", "code": "program", "json_schema": "json", "exact": "text"}
    if verifier in ("math", "numeric"):
        return proposed.kind if proposed.kind in ("number", "latex") else "number"
    return kinds.get(verifier, "other")


def check(name: str, references: Sequence[Any]) -> tuple[verifiers.Check, int]:
    """Return a verifier with its default options, and how many of the references it cannot read.

    Raises:
        VerifierError: There is no such verifier, or it needs an option.
        DataError: It cannot read more than `BAD_SHARE_LIMIT` of the references.
        UserError: A module of the user's cannot be imported.
    """
    try:
        found = verifiers.get(_as_module(name)).bound({})
    except verifiers.VerifierError:
        raise
    except Exception as error:  # a module of the user's own may fail in any way
        raise UserError(f"verifier {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    look = found.reference_problem
    faults = [] if look is None else [text for reference in references if (text := look(reference)) is not None]
    if len(faults) > BAD_SHARE_LIMIT * len(references):
        counts = f"{len(faults):,} of {len(references):,}"
        raise DataError(f"verifier {name!r} cannot read {counts} references: {faults[0]}")
    return found, len(faults)


def _as_module(name: str) -> str:
    """Return "checks:function" for "checks.py:function": users may give the file instead of the module."""
    file, colon, function = name.partition(":")
    return f"{file.removesuffix('.py').replace('/', '.')}{colon}{function}" if colon else name


def _of_objects(references: Sequence[Any], total: int) -> VerifierProposal:
    names: tuple[tuple[str, Kind, str], ...] = (
        ("code", "program", "tests of programs"),
        ("choice", "letter", "letters with their options"),
        ("json_schema", "json", "JSON schemas"),
    )
    for name, kind, what in names:
        fitting = sum(_problem(name, reference) is None for reference in references)
        if fitting >= MOSTLY * total and (name != "json_schema" or all(map(_is_schema, references))):
            return VerifierProposal(name, kind, f"{_count(fitting, total)} references are {what}")
    return VerifierProposal(None, "other", f"the references are objects such as {str(references[0])[:60]}")


def _is_schema(reference: Any) -> bool:
    """Return whether an object has a key of a JSON schema; without one every object is a valid schema."""
    return bool({"type", "properties", "$schema", "schema", "enum", "anyOf"} & _keys(reference))


def _keys(reference: Any) -> set[str]:
    import json

    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except json.JSONDecodeError:
            return set()
    return set(reference) if isinstance(reference, dict) else set()


def _problem(verifier: str, reference: Any) -> str | None:
    look = verifiers.get(verifier).reference_problem
    assert look is not None
    try:
        return look(reference)
    except ModuleNotFoundError as error:  # json_schema needs an extra
        raise DataError(f"verifier {verifier!r}: {error}: pip install 'star-rft[json-schema]'") from None


def _is_number(answer: str) -> bool:
    return _NUMBER.fullmatch(answer.strip()) is not None or _WITH_UNIT.fullmatch(answer.strip()) is not None


def _is_mathematics(answer: str) -> bool:
    answer = answer.strip()
    if _DATE.fullmatch(answer):
        return False
    if _is_number(answer) or _LATEX.search(answer):
        return True
    return _FORMULA.fullmatch(answer) is not None and (
        len(answer) == 1 or re.search(r"[\d+*/=^∞π]", answer) is not None
    )


def _is_letter(answer: str) -> bool:
    return _LETTER.fullmatch(answer.strip()) is not None


def _count(fitting: int, total: int) -> str:
    return f"all {total:,}" if fitting == total else f"{fitting:,} of {total:,}"


_KINDS: tuple[tuple[str, Kind, Callable[[str], bool], str], ...] = (
    ("choice", "letter", _is_letter, "letters of choices"),
    ("math", "number", _is_number, "numbers"),
    ("math", "latex", _is_mathematics, "numbers, formulas or LaTeX"),
)
