"""Conversions of rows: multiple choice with options in columns of their own, and tests of programs."""

from __future__ import annotations

import ast
import builtins
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from star_rft.data.presets import fenced, has, lookup
from star_rft.data.readers import DataError
from star_rft.init.columns import Column, Values, named_like

# Names of columns of one option each: A, option_b, choice3, opa.
_ONE = re.compile(r"(?:option|choice|opt|op|ans|answer)?[ _]?([a-h]|[1-8])", re.IGNORECASE)
MOST_OPTIONS = 12
OPTION_NAMES = ["options", "choices", "answer_choices", "alternatives", "candidates", "endings", "answers"]
# A row with its options, letter -> text.
RowWithOptions: TypeAlias = tuple[Values, Mapping[str, str]]
_LABELS, _TEXTS = ("label", "labels", "key", "letter"), ("text", "texts")


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Multiple choice.

    Attributes:
        prompt: Column of the question.
        reference: Column of the right option: its letter, its number or its text.
        options: One column with all options, or one column an option.
        first: Number of the first option, where the reference is a number.
    """

    prompt: str
    reference: str
    options: tuple[str, ...]
    first: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        return (self.prompt, self.reference, *self.options)

    @property
    def note(self) -> str:
        """Return what is done, for the user."""
        columns = f"column {self.options[0]}" if len(self.options) == 1 else f"columns {', '.join(self.options)}"
        return f"the options in {columns} are put under the question, and the reference is the right one's letter"

    def problem(self, values: Values) -> dict[str, Any]:
        """Return the question with its options, and the letter; DataError where the answer is none of the options."""
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
    """Return the multiple choice of some rows; None without.

    Every row must have options with the answer among them, and not show all of them in its question already.
    """
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


def _is_answered(told: Sequence[RowWithOptions], reference: str, options: tuple[str, ...]) -> bool:
    """Return whether every answer is an option.

    Letters and numbers choose from any list, so where answers are none of the texts, the name of the column must fit
    too.
    """
    first = _first(told, reference)
    answers = [(str(lookup(row, reference)).strip().casefold(), row, texts) for row, texts in told]
    are_texts = all(answer in {text.strip().casefold() for text in texts.values()} for answer, _, texts in answers)
    is_named = len(options) > 1 or named_like(options[0], OPTION_NAMES) is not None
    are_chosen = all(letter_in(lookup(row, reference), texts, first) for _, row, texts in answers)
    return are_texts or (is_named and are_chosen)


def _are_shown(told: Sequence[RowWithOptions], prompt: str) -> bool:
    return all(all(text in str(lookup(row, prompt)) for text in texts.values()) for row, texts in told)


def options_of(values: Values, columns: Sequence[str]) -> dict[str, str] | None:
    """Return the options of a row, letter -> text; None where there are not 2 to `MOST_OPTIONS` of them."""
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
    """Return the letter of the option that an answer gives by letter, text, or number from `first` on; else None."""
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


def _first(told: Sequence[RowWithOptions], reference: str) -> int:
    """Return the number of the first option: 1 if some answer is the number of options and none is 0, else 0."""
    numbers = [(str(lookup(row, reference)).strip(), len(texts)) for row, texts in told]
    return int(all(text != "0" for text, _ in numbers) and any(text == str(most) for text, most in numbers))


def _groups(columns: Sequence[Column]) -> list[tuple[str, ...]]:
    """Return groups of columns that are named in sequence: A, B, C; option1, option2."""
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


_IN, _OUT = ("stdin", "input", "inputs", "in"), ("stdout", "output", "outputs", "expected_output", "expected", "out")
ENTRY_NAMES = ["entry_point", "function_name", "func_name", "fn_name", "function"]
PROGRAM_NAMES = ["canonical_solution", "reference_solution", "solution", "code", "program", "reference_code"]


@dataclass(frozen=True, slots=True)
class Programs:
    """Programming tasks.

    Attributes:
        prompt: Column of the task.
        tests: Column of the tests.
        entry: Column of the name of the function that the tests call, if there is one.
        solution: Column of correct programs, if there is one.
    """

    prompt: str
    tests: str
    entry: str | None = None
    solution: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        return (*(path for path in (self.prompt, self.tests, self.entry, self.solution) if path),)

    @property
    def note(self) -> str:
        """Return what is done, for the user."""
        return f"column {self.tests} is made into the tests that the verifier `code` runs"

    def problem(self, values: Values) -> dict[str, Any]:
        """Return the task, which shows the tests, as MBPP does, where it does not name the function that they call."""
        reference = reference_of(lookup(values, self.tests))
        if reference is None:
            raise DataError(f"column {self.tests!r} holds no tests: {str(lookup(values, self.tests))[:60]!r}")
        prompt = str(lookup(values, self.prompt)).strip()
        if self.entry is not None and "tests" in reference and has(values, self.entry):
            reference["entry_point"] = lookup(values, self.entry)
        if "tests" in reference and not _asked_for(reference) & set(re.findall(r"\w+", prompt)):
            prompt += f"\nYour code should pass these tests:\n\n{reference['tests']}"
        row = {"prompt": prompt, "reference": reference}
        if self.solution is not None and has(values, self.solution):
            solution = str(lookup(values, self.solution))
            row["solution"] = solution if "```" in solution else fenced(solution)
        return row


def find_programs(rows: Sequence[Values], columns: Sequence[Column], *, prompt: str, tests: str) -> Programs | None:
    """Return the programming tasks of some rows, if every row has tests in the column `tests`; else None."""
    if not all(has(row, tests) and reference_of(lookup(row, tests)) is not None for row in rows):
        return None
    others = [column for column in columns if column.path not in (prompt, tests) and column.is_full and column.is_text]
    by_name = {column.path: column for column in others}
    entry = next((path for path in by_name if named_like(path, ENTRY_NAMES) is not None), None)
    solution = next((path for path in by_name if path != entry and named_like(path, PROGRAM_NAMES) is not None), None)
    return Programs(prompt, tests, entry, solution)


def reference_of(value: Any) -> dict[str, Any] | None:
    """Return the reference of the verifier `code` that a value means; None where it holds no tests.

    A value is source with asserts, a list of asserts, inputs with outputs, or one of these as JSON text.
    """
    if isinstance(value, str):
        if value.lstrip().startswith(("{", "[")):
            try:
                return reference_of(json.loads(value))
            except json.JSONDecodeError:
                return None
        return {"tests": value} if _tests_something(value) else None
    if isinstance(value, list) and value:
        if all(isinstance(entry, str) for entry in value):
            source = "\n".join(value)
            return {"tests": source} if _tests_something(source) else None
        cases = [_case(entry) for entry in value]
        return {"cases": cases} if all(cases) else None
    if isinstance(value, Mapping):
        if "tests" in value or "cases" in value:
            return dict(value)
        found, expected = _of(value, _IN), _of(value, _OUT)
        if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected) > 0:
            return {"cases": [_texts(*pair) for pair in zip(found, expected, strict=True)]}
    return None


def _case(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, Mapping) or not any(k in entry for k in _IN) or not any(k in entry for k in _OUT):
        return None
    return _texts(_of(entry, _IN), _of(entry, _OUT))


def _texts(given: Any, expected: Any) -> dict[str, str]:
    return {"stdin": _text(given), "stdout": _text(expected)}


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _of(value: Values, keys: Sequence[str]) -> Any:
    return next((value[key] for key in keys if key in value), None)


def _tests_something(source: str) -> bool:
    """Return whether a text is Python code with an assert."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def _asked_for(reference: Values) -> set[str]:
    """Return the names of which a task must show one: the entry point, or what the tests call, builtins last."""
    if reference.get("entry_point"):
        return {str(reference["entry_point"])}
    try:
        tree = ast.parse(str(reference["tests"]))
    except (SyntaxError, ValueError):
        return set()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return called - set(vars(builtins)) or called
