"""Multiple choice whose options stand in columns of their own: put under the question, as a model must see them."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from star_rft.data.presets import has, lookup
from star_rft.data.readers import DataError
from star_rft.starting.columns import Column, Values, named_like

# One column an option: A, option_b, choice3, opa.
_ONE = re.compile(r"(?:option|choice|opt|op|ans|answer)?[ _]?([a-h]|[1-8])", re.IGNORECASE)
MOST_OPTIONS = 12
OPTION_NAMES = ["options", "choices", "answer_choices", "alternatives", "candidates", "endings", "answers"]
# A row with its options.
Told: TypeAlias = tuple[Values, Mapping[str, str]]
_LABELS, _TEXTS = ("label", "labels", "key", "letter"), ("text", "texts")


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """`options` is one column of all, or one column each; `first` is the number of the first, where numbers choose."""

    prompt: str
    reference: str
    options: tuple[str, ...]
    first: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.prompt, self.reference, *self.options)

    @property
    def note(self) -> str:
        columns = f"column {self.options[0]}" if len(self.options) == 1 else f"columns {', '.join(self.options)}"
        return f"the options in {columns} are put under the question, and the reference is the right one's letter"

    def problem(self, values: Values) -> dict[str, Any]:
        """Return the question with its options, and the letter; raise DataError where the answer is none of them."""
        texts = options_of(values, self.options)
        if texts is None:
            raise DataError(f"no options in {', '.join(self.options)}")
        letter = letter_in(lookup(values, self.reference), texts, self.first)
        if letter is None:
            answer, listed = lookup(values, self.reference), "; ".join(f"{key} {text}" for key, text in texts.items())
            raise DataError(f"column {self.reference!r} is {answer!r}, which is none of the options {listed}")
        lines = [lookup(values, self.prompt), *(f"({key}) {text}" for key, text in texts.items())]
        return {"prompt": "\n".join(map(str, lines)), "reference": letter}


def find_choices(
    rows: Sequence[Values], columns: Sequence[Column], *, prompt: str, reference: str
) -> MultipleChoice | None:
    """Return how the options are told, if every row has some, with the answer among them, and none shows them yet."""
    rows = [row for row in rows if has(row, prompt, reference)]
    if not rows:
        return None
    for options in [*((column.path,) for column in columns), *_groups(columns)]:
        if any(path in options or path.partition(".")[0] in options for path in (prompt, reference)):
            continue
        told = [(row, texts) for row in rows if (texts := options_of(row, options)) is not None]
        if len(told) < len(rows) or _are_shown(told, prompt) or not _is_answered(told, reference, options):
            continue
        return MultipleChoice(prompt, reference, options, _first(told, reference))
    return None


def _is_answered(told: Sequence[Told], reference: str, options: tuple[str, ...]) -> bool:
    """Whether every answer is an option; a letter is one of any list of things, so that the name must say it too."""
    first = _first(told, reference)
    answers = [(str(lookup(row, reference)).strip().casefold(), row, texts) for row, texts in told]
    are_texts = all(answer in {text.strip().casefold() for text in texts.values()} for answer, _, texts in answers)
    is_named = len(options) > 1 or named_like(options[0], OPTION_NAMES) is not None
    are_chosen = all(letter_in(lookup(row, reference), texts, first) for _, row, texts in answers)
    return are_texts or (is_named and are_chosen)


def _are_shown(told: Sequence[Told], prompt: str) -> bool:
    return all(all(text in str(lookup(row, prompt)) for text in texts.values()) for row, texts in told)


def options_of(values: Values, columns: Sequence[str]) -> dict[str, str] | None:
    """Return letter -> text; None if there are not two options or more."""
    if not all(has(values, column) for column in columns):
        return None
    if len(columns) > 1:
        return _lettered([lookup(values, column) for column in columns])
    value = lookup(values, columns[0])
    if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        value = {key: [entry.get(key) for entry in value] for key in (value[0] if value else {})}
    if isinstance(value, list):
        return _lettered(value)
    if not isinstance(value, Mapping):
        return None
    texts = next((value[key] for key in _TEXTS if isinstance(value.get(key), list)), None)
    labels = next((value[key] for key in _LABELS if isinstance(value.get(key), list)), None)
    if texts is not None:
        is_lettered = labels is not None and len(labels) == len(texts) and all(map(_is_letter, labels))
        return _lettered(texts, labels if is_lettered else None)
    return _lettered(list(value.values()), list(value)) if all(map(_is_letter, value)) else None


def letter_in(answer: Any, texts: Mapping[str, str], first: int) -> str | None:
    """Return the letter that an answer chooses, as a letter, as a number from `first` on, or by the option's text."""
    text = str(answer).strip()
    letter = text.strip("().: ").upper()
    if letter in texts:
        return letter
    by_text = [key for key, option in texts.items() if option.strip().casefold() == text.casefold()]
    if len(by_text) == 1:
        return by_text[0]
    if isinstance(answer, bool) or not re.fullmatch(r"\d+", text):
        return None
    index = int(text) - first
    return list(texts)[index] if 0 <= index < len(texts) else None


def _first(told: Sequence[Told], reference: str) -> int:
    """Numbers begin at 1 if one of them is the number of options and none is 0."""
    numbers = [(str(lookup(row, reference)).strip(), len(texts)) for row, texts in told]
    return int(all(text != "0" for text, _ in numbers) and any(text == str(most) for text, most in numbers))


def _groups(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    """Return columns that are named one after the other: A, B, C; option1, option2."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        match = _ONE.fullmatch(column.path)
        if match is not None:
            groups.setdefault(column.path[: match.start(1)].lower(), []).append(column.path)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _lettered(texts: Sequence[Any], labels: Sequence[Any] | None = None) -> dict[str, str] | None:
    are_short = all(isinstance(text, str | int | float) and not isinstance(text, bool) for text in texts)
    if not are_short or not 2 <= len(texts) <= MOST_OPTIONS:
        return None
    keys = string.ascii_uppercase[: len(texts)] if labels is None else [str(label).upper() for label in labels]
    options = dict(zip(keys, map(str, texts), strict=True))
    return options if len(options) == len(texts) == len(set(options.values())) else None


def _is_letter(label: Any) -> bool:
    return isinstance(label, str) and re.fullmatch(r"[A-La-l]", label) is not None
