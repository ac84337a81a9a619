"""The columns of a data set: their paths and values, and which names suggest which field of a problem."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from star_rft.data.presets import has, lookup

Values = Mapping[str, Any]

_PROMPT = (
    "question problem prompt query instruction input task question_text problem_text problem_statement statement "
    "exercise question_stem stem description text content body q"
)
_REFERENCE = (
    "final_answer ground_truth gold gold_answer reference reference_answer correct_answer expected_answer answer_key "
    "answerkey expected numeric_answer answer target label correct_option output result tests test_cases test_list "
    "unit_tests cases input_output test schema json_schema correct response solution completion a"
)
_SOLUTION = (
    "solution rationale reasoning chain_of_thought cot explanation worked_solution working derivation steps thought "
    "thoughts canonical_solution code generated_solution answer response output completion"
)
_ABOUT = "id ids key index idx type category concept number level source length len count hash url date"
# Names of columns by field, the surest first.
PROMPT_NAMES, REFERENCE_NAMES, SOLUTION_NAMES = _PROMPT.split(), _REFERENCE.split(), _SOLUTION.split()
ID_NAMES = ["id", "task_id", "unique_id", "uid", "question_id", "problem_id", "qid", "idx", "index"]
# Last words of names of columns that say something about a question (`question_id`).
ABOUT = frozenset(_ABOUT.split())
# A mapping with one of these keys is one value, such as tests: its parts are not columns.
WHOLE = frozenset({"tests", "cases", "properties", "$schema", "inputs", "options"})
PARTS_AT_MOST = 8  # keys of a mapping whose parts are columns
MESSAGES_AT_MOST = 4  # of a chat
LONG_WORDS = 8  # words, on average, from which texts are long
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its values in the first rows, None where a row has none."""

    path: str
    values: tuple[Any, ...]

    @property
    def present(self) -> list[Any]:
        """Return the values that are not empty."""
        return [value for value in self.values if value not in (None, "", [], {})]

    @property
    def is_full(self) -> bool:
        """Return whether every row has a value."""
        return len(self.present) == len(self.values)

    @property
    def is_text(self) -> bool:
        """Return whether there are values, and all are texts."""
        return bool(self.present) and all(isinstance(value, str) for value in self.present)

    @property
    def words(self) -> float:
        """Return the median number of words of its texts; 0 for other values."""
        return median(len(value.split()) for value in self.present) if self.is_text else 0.0

    @property
    def distinct(self) -> float:
        """Return the number of different values, as text, as a share of all values."""
        return len({str(value) for value in self.present}) / max(len(self.present), 1)

    @property
    def example(self) -> str:
        """Return the first value on one line."""
        return one_line(self.present[0]) if self.present else "(empty in every row)"


def columns_of(rows: Sequence[Values]) -> list[Column]:
    """Return the columns in the order in which they first occur; dots reach into objects: `question.stem`."""
    paths = dict.fromkeys(path for row in rows for path in _paths(row))
    return [Column(path, tuple(lookup(row, path) if has(row, path) else None for row in rows)) for path in paths]


def _paths(row: Values) -> Iterator[str]:
    for name, value in row.items():
        yield name
        if isinstance(value, Mapping) and len(value) <= PARTS_AT_MOST and not WHOLE & set(value):
            yield from (f"{name}.{key}" for key in value if isinstance(key, str) and "." not in key)
        elif isinstance(value, list):  # a chat: messages.0.content
            turns = [
                i for i, turn in enumerate(value) if isinstance(turn, Mapping) and {"role", "content"} <= set(turn)
            ]
            yield from (f"{name}.{i}.content" for i in turns[:MESSAGES_AT_MOST])


def named_like(path: str, names: Sequence[str]) -> int | None:
    """Return how well a name fits (0 is best): the whole name before one of its words; None if it does not."""
    words = _words(path)
    whole = "_".join(words)
    if whole in names:
        return names.index(whole)
    if "messages" in path and whole == "content":
        return None
    found = [index for index, name in enumerate(names) if len(name) > 1 and name in words]
    return len(names) + min(found) if found else None


def is_about(path: str) -> bool:
    """Return whether a name says that the column is about a question (`question_id`) and not the question."""
    words = _words(path)
    return bool(words) and words[-1] in ABOUT


def _words(path: str) -> list[str]:
    return _WORD.findall(_HUMP.sub(" ", path.rpartition(".")[2]).lower())


def one_line(value: Any, width: int | None = None) -> str:
    """Return a value as one line of printable text, cut at `width`: data may hold control characters."""
    text = " ".join(str(value).split())
    text = "".join(char for char in text if char.isprintable())
    return text if width is None or len(text) <= width else text[: width - 3].rstrip() + "..."
