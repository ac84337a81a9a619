"""Proposes which columns hold question, answer and solution, each with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Protocol

from star_rft.data.load import ID_COLUMNS, META_COLUMNS
from star_rft.data.presets import FIELDS, PRESETS, detect, last_boxed, lookup
from star_rft.data.readers import DataError
from star_rft.init.columns import (
    ID_NAMES,
    LONG_WORDS,
    PROMPT_NAMES,
    REFERENCE_NAMES,
    SOLUTION_NAMES,
    Column,
    Values,
    columns_of,
    is_about,
    named_like,
)
from star_rft.init.conversions import find_choices, find_programs, reference_of
from star_rft.init.verifier import answer_of

# What the presets of known data sets read. Without qa and mawps: for these the names of the columns say more.
PRESET_CHOICES = {
    "gsm8k": (("prompt", "question"), ("reference", "answer, what follows ####"), ("solution", "answer")),
    "math": (("prompt", "problem"), ("reference", r"answer, or \boxed{} of solution"), ("solution", "solution")),
    "svamp": (("prompt", "Body + Question"), ("reference", "Answer")),
    "humaneval": (("prompt", "prompt"), ("reference", "test, entry_point"), ("solution", "canonical_solution")),
    "mbpp": (("prompt", "text or prompt, test_list"), ("reference", "test_list"), ("solution", "code")),
    "commonsenseqa": (("prompt", "question with its choices"), ("reference", "answerKey")),
}
DATA_SETS = {"gsm8k": "GSM8K", "math": "MATH", "svamp": "SVAMP", "humaneval": "HumanEval", "mbpp": "MBPP"}
# What a user gives as the column of a field that the data does not have.
NONE = "-"
MOSTLY = 0.8  # share of values from which a column counts as of a kind
MARKED = "its texts end in a marked answer"
_QUESTION_MARK = re.compile(r"\?\s*$")
_NUMBER = re.compile(r"[-+$]{0,2}\d[\d,]*(\.\d+)?%?")


class Conversion(Protocol):
    """Makes problems of rows whose columns cannot be mapped to fields."""

    @property
    def note(self) -> str:
        """Return what is done, for the user."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the paths of the columns that are read."""
        ...

    def problem(self, values: Values) -> dict[str, Any]:
        """Return prompt, reference and perhaps solution of a row; DataError where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of a problem, the column that it is read from, and the reason."""

    field: str
    column: str
    why: str


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """How rows become problems.

    `preset` and `columns` are arguments of `star_rft.data.load`; a conversion makes rows that need neither.
    """

    choices: tuple[Choice, ...]
    preset: str | None = None
    columns: Mapping[str, str] | None = None
    conversion: Conversion | None = None

    def reading(self) -> dict[str, Any]:
        """Return the keys of a config's source that say how its rows are read."""
        if self.conversion is not None:
            return {"columns": {choice.field: choice.field for choice in self.choices if choice.field != "id"}}
        named = {"preset": self.preset, "columns": dict(self.columns) if self.columns else None}
        return {key: value for key, value in named.items() if value is not None}

    def row(self, values: Values) -> Values:
        """Return the row to load: the row itself, or the converted one with its id and the columns `META_COLUMNS`."""
        if self.conversion is None:
            return values
        kept = {key: value for key, value in values.items() if key.lower() in META_COLUMNS}
        named = [lookup(values, choice.column) for choice in self.choices if choice.field == "id"]
        return {**({"id": named[0]} if named else {}), **kept, **self.conversion.problem(values)}

    def without(self, field: str) -> ColumnRoles:
        """Return the roles without a field, such as a solution that some rows lack."""
        columns = {key: path for key, path in (self.columns or {}).items() if key != field}
        choices = tuple(choice for choice in self.choices if choice.field != field)
        return ColumnRoles(choices, self.preset, columns or None, self.conversion)


def propose(rows: Sequence[Values], given: Mapping[str, str] | None = None) -> ColumnRoles:
    """Propose the roles of columns.

    Args:
        rows: The first rows.
        given: Columns that the user has named, by field.

    Raises:
        DataError: No column fits a field; the text describes the columns.
    """
    given = given or {}
    _check_given(rows[0], given)
    preset = None if given else _shape(rows)
    if preset is not None:
        known = f"its shape is that of {DATA_SETS.get(preset, preset)}"
        return ColumnRoles(
            tuple(Choice(field, column, known) for field, column in PRESET_CHOICES[preset]), preset=preset
        )
    columns = columns_of(rows)
    prompt = _given("prompt", given) or _prompt(columns)
    rest = [column for column in columns if column.path != prompt.column]
    reference = _given("reference", given) or _reference(rest)
    return _converted(rows, rest, prompt, reference, given) or _plain(rows, rest, prompt, reference, given)


def unused(rows: Sequence[Values], meaning: ColumnRoles) -> list[str]:
    """Return the columns that do not become part of a problem."""
    used = {name for choice in meaning.choices for name in re.findall(r"[^\s,+]+", choice.column)}
    used |= set(meaning.conversion.columns) if meaning.conversion else set()
    columns = dict.fromkeys(key for row in rows for key in row)
    kept = {*META_COLUMNS, *ID_COLUMNS}
    return [column for column in columns if not _is_read(column, used) and column.lower() not in kept]


def _is_read(column: str, used: set[str]) -> bool:
    return column in used or any(path.startswith(f"{column}.") for path in used)


def _check_given(first: Values, given: Mapping[str, str]) -> None:
    for field, column in given.items():
        if field not in FIELDS:
            raise DataError(f"--column {field}={column}: no field {field!r}; valid are {', '.join(FIELDS)}")
        if column != NONE:
            lookup(first, column)
        elif field in ("prompt", "reference"):
            raise DataError(f"every problem needs a {field}: name its column")
    if "prompt" in given and given.get("prompt") == given.get("reference"):
        raise DataError(f"prompt and reference are the same column, {given['prompt']!r}")


def _given(field: str, given: Mapping[str, str]) -> Choice | None:
    return Choice(field, given[field], "you named it") if field in given else None


def _optional(field: str, given: Mapping[str, str], proposed: Choice | None) -> list[Choice]:
    if given.get(field) == NONE:
        return []
    chosen = _given(field, given) or proposed
    return [chosen] if chosen else []


def _shape(rows: Sequence[Values]) -> str | None:
    """Return the preset of `PRESET_CHOICES` that fits every row; None without one."""
    preset = detect(rows[0])
    if preset not in PRESET_CHOICES or not all(PRESETS[preset].fits(row) for row in rows):
        return None
    return preset


def _prompt(columns: Sequence[Column]) -> Choice:
    texts = [column for column in columns if column.is_text]
    named = [(rank, column) for column in texts if (rank := _rank(column, PROMPT_NAMES)) is not None]
    if named:
        _, best = min(named, key=lambda found: found[0])
        return Choice("prompt", best.path, "its name")
    varied = [c for c in texts if c.distinct >= MOSTLY and c.words >= 3 and not is_about(c.path)]
    asking = [column for column in varied if _share(column, lambda text: bool(_QUESTION_MARK.search(text))) > 0.5]
    if asking:
        return Choice("prompt", asking[0].path, "most of its texts end in a question mark")
    if varied:
        return Choice("prompt", varied[0].path, "the first column of texts that differ from row to row")
    described = ", ".join(f"{column.path} ({_kind(column)})" for column in columns)
    raise DataError(f"no column looks like a question; there are {described}. {_name_it('prompt')}")


def _reference(columns: Sequence[Column]) -> Choice:
    """Return the column of answers: one of tests, else by name (columns of short values first), else by content."""
    filled = [column for column in columns if column.present]
    for column in filled:
        if all(reference_of(value) is not None for value in column.present) and column.is_full:
            return Choice("reference", column.path, "it holds tests")
    named = [(rank, column) for column in filled if (rank := _rank(column, REFERENCE_NAMES)) is not None]
    if named:
        is_long = {column.path: column.words >= LONG_WORDS and _marker(column) is None for _, column in named}
        _, best = min(named, key=lambda found: (is_long[found[1].path], found[0]))
        return Choice("reference", best.path, "its name")
    if (found := _by_content(filled)) is not None:
        return found
    empty = [c.path for c in columns if not c.present and named_like(c.path, REFERENCE_NAMES) is not None]
    if empty:
        text = f"column {empty[0]!r} is empty in every row, so nothing can be checked"
        raise DataError(f"{text}. {_name_it('reference')}")
    described = ", ".join(f"{column.path} ({_kind(column)})" for column in columns) or "no other column"
    raise DataError(f"no column looks like an answer that can be checked: {described}. {_name_it('reference')}")


def _by_content(columns: Sequence[Column]) -> Choice | None:
    """Return the column whose values look like answers; None without one."""
    likely = [c for c in columns if not is_about(c.path) and named_like(c.path, ID_NAMES) is None]
    marked = next((column for column in likely if _marker(column) is not None), None)
    if marked is not None:
        ends = [answer_of(text) for text in marked.present]
        same = [c.path for c in likely if c.is_full and _texts(c) == ends]
        return Choice("reference", *((same[0], f"{marked.path} ends in it") if same else (marked.path, MARKED)))
    looks: list[tuple[Callable[[Column], bool], str]] = [
        (lambda column: _share(column, _is_letter) == 1, "its values are letters"),
        (lambda column: not _counts(column) and _share(column, _is_number) >= MOSTLY, "its values are numbers"),
        (lambda column: 0 < column.words <= 3 and len(set(column.present)) > 1, "its texts are short"),
    ]
    return next((Choice("reference", c.path, why) for is_one, why in looks for c in likely if is_one(c)), None)


def _texts(column: Column) -> list[str]:
    return [str(value).strip() for value in column.present]


def _converted(
    rows: Sequence[Values], columns: Sequence[Column], prompt: Choice, reference: Choice, given: Mapping[str, str]
) -> ColumnRoles | None:
    """Return the roles of data with options or tests in columns of their own, which need a conversion; else None."""
    programs = find_programs(rows, columns, prompt=prompt.column, tests=reference.column)
    conversion: Conversion | None = programs or find_choices(
        rows, columns, prompt=prompt.column, reference=reference.column
    )
    if conversion is None:
        return None
    solution = [Choice("solution", programs.solution, "its name")] if programs and programs.solution else []
    return ColumnRoles((prompt, reference, *solution, *_optional("id", given, _id(columns))), conversion=conversion)


def _plain(
    rows: Sequence[Values], columns: Sequence[Column], prompt: Choice, reference: Choice, given: Mapping[str, str]
) -> ColumnRoles:
    rest = [column for column in columns if column.path != reference.column]
    source = next((column for column in columns if column.path == reference.column), None)
    marker = _marker(source) if source is not None and "solution" not in given else None
    if marker == "####":
        named = {"question": prompt.column, "answer": reference.column}
        return _by_preset("gsm8k", named, prompt, reference, "what follows ####")
    if marker is not None and source is not None and source.words >= LONG_WORDS and "answer" not in rows[0]:
        named = {"problem": prompt.column, "solution": reference.column}
        return _by_preset("math", named, prompt, reference, r"what its last \boxed{} holds")
    found = [prompt, reference]
    found += _optional("solution", given, _solution(rest, source)) + _optional("id", given, _id(rest))
    return ColumnRoles(tuple(found), columns={choice.field: choice.column for choice in found})


def _by_preset(preset: str, named: Mapping[str, str], prompt: Choice, reference: Choice, what: str) -> ColumnRoles:
    renamed = {to: column for to, column in named.items() if to != column}
    column = reference.column
    found = (prompt, Choice("reference", column, f"{reference.why}; {what}"), Choice("solution", column, "all of it"))
    return ColumnRoles(found, preset=preset, columns=renamed or None)


def _solution(columns: Sequence[Column], reference: Column | None) -> Choice | None:
    """Return the column of worked solutions, which every row must have; None without one."""
    long = [column for column in columns if column.is_text and column.is_full and column.words >= 3]
    named = [(rank, column) for column in long if (rank := _rank(column, SOLUTION_NAMES)) is not None]
    if named:
        return Choice("solution", min(named, key=lambda found: found[0])[1].path, "its name")
    if reference is None or not reference.is_full:
        return None
    for column in long:
        ends = [answer in text for text, answer in zip(column.present, _texts(reference), strict=True)]
        if column.words >= LONG_WORDS / 2 and sum(ends) >= MOSTLY * len(ends):
            return Choice("solution", column.path, "the answer stands in its texts")
    return None


def _id(columns: Sequence[Column]) -> Choice | None:
    named = [(rank, column) for column in columns if (rank := named_like(column.path, ID_NAMES)) is not None]
    unique = [(rank, column.path) for rank, column in named if column.is_full and column.distinct == 1]
    exact = [path for rank, path in sorted(unique) if rank < len(ID_NAMES)]
    return Choice("id", exact[0], "its name, and each value once") if exact else None


def _rank(column: Column, names: Sequence[str]) -> int | None:
    """Return `named_like`, but None for names of which a part fits and that are about something else."""
    rank = named_like(column.path, names)
    return None if rank is None or (rank >= len(names) and is_about(column.path)) else rank


def _marker(column: Column) -> str | None:
    r"""Return "####" or "\boxed" if every text of the column marks its answer so."""
    if not column.is_text or not column.is_full:
        return None
    if all("####" in text for text in column.present):
        return "####"
    return r"\boxed" if all(last_boxed(text) is not None for text in column.present) else None


def _share(column: Column, is_one: Callable[[str], bool]) -> float:
    plain = [value for value in column.present if isinstance(value, str | int | float) and not isinstance(value, bool)]
    return sum(is_one(str(value)) for value in plain) / max(len(column.present), 1)


def _is_letter(text: str) -> bool:
    return len(text.strip("(). ")) == 1 and not text.isdigit()


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None


def _counts(column: Column) -> bool:
    """Return whether the values count the rows: 0, 1, 2, ... is an index, not an answer."""
    numbers = column.present
    return len(numbers) > 2 and all(
        isinstance(a, int) and isinstance(b, int) and b - a == 1 for a, b in pairwise(numbers)
    )


def _kind(column: Column) -> str:
    if not column.present:
        return "empty"
    if column.is_text:
        return f"texts of {median(len(text.split()) for text in column.present):g} words"
    return {"bool": "yes or no", "int": "numbers", "float": "numbers", "list": "lists"}.get(
        type(column.present[0]).__name__, "objects"
    )


def _name_it(field: str) -> str:
    return f"Name it: --column {field}=COLUMN"
