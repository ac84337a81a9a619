"""The verifier `code`: runs a completion's program against its tests in a sandbox."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verifiers.extraction.program import find_program
from verifiers.registry import UnknownOption, register
from verifiers.sandbox.inside.candidate import MODULE
from verifiers.sandbox.jail import JailFailure, NoSandbox, Outcome, Settings, borrowed, warm
from verifiers.types import Reason, Status, Verdict
from verifiers.workers import heartbeat

_SHAPES = (
    "{'tests': source that defines check(candidate) or asserts, 'entry_point': name} or "
    "{'cases': [{'stdin': ..., 'stdout': ...}, ...]}"
)
_KEYS = {"tests", "entry_point", "prompt", "cases"}


@dataclass(frozen=True, slots=True)
class _ProgramTests:
    """The tests of a program: source that tests a function, or (standard input, expected output) pairs.

    `helpers` is the source of what the prompt defines besides the function asked for.
    """

    tests: str = ""
    entry_point: str | None = None
    prompt: str = ""
    helpers: str = ""
    cases: tuple[tuple[str, str], ...] = ()


class _BadReference(ValueError):
    """The reference describes no tests; the message says what is wrong."""


def _read_tests(reference: Any) -> _ProgramTests:
    """Return the tests of a reference, which may be JSON text; raise _BadReference."""
    if isinstance(reference, str) and reference.lstrip().startswith("{"):
        try:
            reference = json.loads(reference)
        except json.JSONDecodeError as error:
            raise _BadReference(f"not JSON: {error}") from None
    if not isinstance(reference, Mapping):
        raise _BadReference(f"a reference must be {_SHAPES}, not {type(reference).__name__}")
    if unknown := sorted(set(map(str, reference)) - _KEYS):
        raise _BadReference(f"a reference has no key {unknown[0]!r}; valid: {', '.join(sorted(_KEYS))}")
    if ("tests" in reference) == ("cases" in reference):
        raise _BadReference(f"a reference needs either 'tests' or 'cases': {_SHAPES}")
    if "cases" in reference:
        return _ProgramTests(cases=tuple(_case(case) for case in _listed(reference["cases"])))
    tests = reference["tests"]
    text = tests if isinstance(tests, str) else "\n".join(map(str, _listed(tests)))
    prompt = reference.get("prompt") or ""
    entry_point = _entry_point(text, reference.get("entry_point"))
    return _ProgramTests(text, entry_point, prompt, _helpers(prompt, entry_point))


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Sequence) or not value:
        raise _BadReference(f"'tests' or 'cases' must be a list that is not empty, not {value!r:.80}")
    return value


def _case(case: Any) -> tuple[str, str]:
    """Return (standard input, expected output) of {"stdin", "stdout"} or of a pair; each may be a list of lines."""
    if isinstance(case, Mapping) and {"stdin", "stdout"} <= set(case):
        case = (case["stdin"], case["stdout"])
    if not isinstance(case, Sequence) or isinstance(case, str) or len(case) != 2:
        raise _BadReference(f"a case must be {{'stdin': text, 'stdout': text}}, not {case!r:.80}")
    return _text(case[0]), _text(case[1])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "\n".join(map(str, value))
    raise _BadReference(f"standard input and output must be text, not {value!r:.80}")


@functools.lru_cache(maxsize=1024)
def _entry_point(tests: str, given: str | None) -> str | None:
    """Return the name of the function under test, or None where it follows from the names that the tests use.

    It does not follow where they call builtins only: MBPP asks for a function called `sum`. Raises _BadReference for
    tests that are no Python, or test nothing.
    """
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError) as error:
        raise _BadReference(f"the tests are no Python: {error}") from None
    has_check = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body)
    if has_check and not given:
        raise _BadReference("the tests define check(candidate), so the reference needs 'entry_point'")
    tests_something = any(isinstance(node, (ast.Assert, ast.Raise)) or _is_test(node) for node in ast.walk(tree))
    if not has_check and not tests_something:
        raise _BadReference("the tests neither define check(candidate) nor assert anything")
    calls = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    are_builtin = bool(calls) and all(name in vars(builtins) for name in calls)
    return given or (calls[0] if are_builtin else None)


@functools.lru_cache(maxsize=1024)
def _helpers(prompt: str, entry_point: str | None) -> str:
    """Return the prompt's definitions except the function to write; "" if the prompt is no Python."""
    try:
        tree = ast.parse(prompt)
    except (SyntaxError, ValueError):
        return ""
    tree.body = [node for node in tree.body if getattr(node, "name", None) != entry_point]
    return ast.unparse(tree)


@functools.lru_cache(maxsize=1024)
def _asked_for(tests: str) -> str | None:
    """Return the first name that the tests call and only the program can define."""
    nodes = list(ast.walk(ast.parse(tests)))
    known = set(vars(builtins))
    # Not those that the tests assign, import or define themselves; but imports from `solution` are the program's.
    known |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    imports = [node for node in imports if getattr(node, "module", "") != MODULE]
    known |= {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names}
    known |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    calls = (node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return next((name for name in calls if name not in known), None)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))


def _reference_problem(reference: Any) -> str | None:
    try:
        _read_tests(reference)
    except (_BadReference, json.JSONDecodeError) as error:
        return str(error)
    return None


def _warm_up() -> None:
    """Start the jail with the default settings, so that the first item need not wait for it."""
    with contextlib.suppress(NoSandbox):
        warm(Settings())


@register(
    "code",
    version="1",
    timeout=5.0,
    time_option="time_limit",
    example=(
        "```python\ndef add(a, b):\n    return a + b\n```",
        {"tests": "assert add(2, 3) == 5", "entry_point": "add"},
    ),
    warm_up=_warm_up,
    reference_problem=_reference_problem,
)
def code(
    completion: str,
    reference: Any,
    *,
    time_limit: float = 5.0,
    memory_mb: int = 1024,
    preload: str = "",
    unsafe: bool = False,
) -> Verdict:
    """The completion's Python program passes its tests in a sandbox: asserts, or standard input and output.

    `time_limit`: seconds for a program with all its tests, or for each case of standard input.
    `memory_mb`: the memory of each process.
    `preload`: modules to import once for all programs, as in "numpy, scipy".
    `unsafe`: run programs without a sandbox.

    The verdict's version ends in the sandbox level (`1+jail`); its `answer` is one line on what went wrong.
    """
    if time_limit <= 0 or memory_mb < 64:
        raise UnknownOption("options 'time_limit' and 'memory_mb' of 'code' must be above 0 seconds and at least 64 MB")
    try:
        program_tests = _read_tests(reference)
    except (_BadReference, json.JSONDecodeError) as error:
        return Verdict.unknown("bad_reference", str(error))
    program = find_program(
        completion, name=program_tests.entry_point or _asked_for(program_tests.tests), prompt=program_tests.prompt
    )
    if program is None:
        return Verdict.incorrect("no_answer")
    settings = Settings(float(time_limit), memory_mb, tuple(preload.replace(",", " ").split()), unsafe)
    try:
        outcome, level = _judged(program, program_tests, settings)
    except NoSandbox as error:
        _warn_once(str(error))
        return Verdict.unknown("no_sandbox", str(error))
    return _verdict(outcome, level)


@functools.cache
def _warn_once(text: str) -> None:
    import logging

    logging.getLogger("verifiers").warning("%s. `unsafe` runs programs without a sandbox.", text)


def _judged(program: str, program_tests: _ProgramTests, settings: Settings) -> tuple[Outcome, str]:
    """Judge in this process's jail; if that breaks, once more in a new one: an earlier program may have broken it."""
    try:
        return _judged_once(program, program_tests, settings)
    except JailFailure:
        return _judged_once(program, program_tests, settings)


# Bytes. A program may print this much more than twice the expected output before it is wrong whatever it printed.
_OUTPUT_SLACK = 1 << 16


def _judged_once(program: str, program_tests: _ProgramTests, settings: Settings) -> tuple[Outcome, str]:
    with heartbeat.uncounted():
        warm(settings)
    with borrowed(settings) as jail:
        level = jail.way.level
        if not program_tests.cases:
            return jail.test(program, program_tests.tests, program_tests.entry_point, program_tests.helpers), level
        for number, (stdin, expected) in enumerate(program_tests.cases, start=1):
            heartbeat.renew()  # the time limit holds for each case
            failure, printed = jail.run_case(program, stdin, limit=2 * len(expected.encode()) + _OUTPUT_SLACK)
            if failure is None and _lines_of(printed) != _lines_of(expected):
                failure = Outcome("incorrect", "mismatch", f"expected {expected!r:.80}, printed {printed!r:.80}")
            if failure is not None:
                return Outcome(failure.status, failure.reason, f"case {number}: {failure.detail}"), level
        return Outcome("correct", "match"), level


def _lines_of(text: str) -> list[str]:
    """Return the lines of an output as they are compared: without trailing spaces and trailing empty lines."""
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _verdict(outcome: Outcome, level: str) -> Verdict:
    status: Status = outcome.status  # type: ignore[assignment]  # the test runner uses the same words
    reason: Reason = outcome.reason  # type: ignore[assignment]
    score = None if status == "unknown" else float(status == "correct")
    return Verdict(status, score, outcome.detail or None, reason, version=f"+{level}")
