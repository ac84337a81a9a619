"""Coding tasks whose tests stand in columns as people write them: made into what the verifier `code` reads."""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from star_rft.data.presets import fenced, has, lookup
from star_rft.data.readers import DataError
from star_rft.starting.columns import Column, Values, named_like

_IN, _OUT = ("stdin", "input", "inputs", "in"), ("stdout", "output", "outputs", "expected_output", "expected", "out")
ENTRY_NAMES = ["entry_point", "function_name", "func_name", "fn_name", "function"]
PROGRAM_NAMES = ["canonical_solution", "reference_solution", "solution", "code", "program", "reference_code"]


@dataclass(frozen=True, slots=True)
class Programs:
    """`entry` names the function that the tests call, `solution` a column of right programs; either may be missing."""

    prompt: str
    tests: str
    entry: str | None = None
    solution: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*(path for path in (self.prompt, self.tests, self.entry, self.solution) if path),)

    @property
    def note(self) -> str:
        return f"column {self.tests} is made into the tests that the verifier `code` runs"

    def problem(self, values: Values) -> dict[str, Any]:
        """Return the task; tests that alone name the function are shown, as MBPP's are."""
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
    """Return how the tasks are told, if every row has tests in that column."""
    if not all(has(row, tests) and reference_of(lookup(row, tests)) is not None for row in rows):
        return None
    others = [column for column in columns if column.path not in (prompt, tests) and column.is_full and column.is_text]
    by_name = {column.path: column for column in others}
    entry = next((path for path in by_name if named_like(path, ENTRY_NAMES) is not None), None)
    solution = next((path for path in by_name if path != entry and named_like(path, PROGRAM_NAMES) is not None), None)
    return Programs(prompt, tests, entry, solution)


def reference_of(value: Any) -> dict[str, Any] | None:
    """Return the reference that a value means: source with asserts, a list of asserts, or inputs with outputs."""
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
    """Only code: a text that says "assert" somewhere is no test."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def _asked_for(reference: Values) -> set[str]:
    """Return what the task must name: the entry point, or what the tests call, a builtin only if nothing else."""
    if reference.get("entry_point"):
        return {str(reference["entry_point"])}
    try:
        tree = ast.parse(str(reference["tests"]))
    except (SyntaxError, ValueError):
        return set()
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return called - set(vars(builtins)) or called
