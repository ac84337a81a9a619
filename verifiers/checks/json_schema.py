"""The verifier `json_schema`: the completion holds a JSON value that a schema allows.

It needs the library `jsonschema`: `pip install "star-rft[json-schema]"`. No `$ref` is ever fetched from the network.
Patterns of a schema may backtrack without end, as Python's `re` does; `verify_many` kills such a check at its limit.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from verifiers.extraction.answer import visible
from verifiers.plugins import VerifierError
from verifiers.registry import Check, register
from verifiers.types import Verdict
from verifiers.workers.heartbeat import uncounted

_LENGTH_LIMIT = 1_000_000
_DEPTH_LIMIT = 64
_FENCE = re.compile(r"```[ \t]{0,4}(\w{0,12})[^\n`]{0,80}\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class _NoJSON(ValueError):
    """The text holds no JSON value, or one that is refused."""


@dataclass(frozen=True, slots=True)
class _Schema:
    """A parsed reference: validators of jsonschema, the second one for an exact value; or what is wrong with it."""

    validators: tuple[Any, ...] = ()
    problem: str | None = None


def _warm_up() -> None:
    """Import jsonschema (0.1 s) outside any item's time limit."""
    with uncounted():
        import jsonschema  # noqa: F401


def _bind(check: Check, _given: Mapping[str, Any]) -> Check:
    """Return the check unchanged; raise VerifierError where the library is missing."""
    if importlib.util.find_spec("jsonschema") is None:
        raise VerifierError("verifier 'json_schema' needs the library jsonschema: pip install 'star-rft[json-schema]'")
    return check


def _reference_problem(reference: Any) -> str | None:
    return _read(reference).problem


def _read(reference: Any) -> _Schema:
    if isinstance(reference, Mapping):
        try:
            reference = json.dumps(reference)
        except (TypeError, ValueError, RecursionError) as error:
            return _Schema(problem=f"a reference must be plain JSON: {error}")
    if not isinstance(reference, str):
        return _Schema(problem=f"a reference must be a JSON schema, not {type(reference).__name__}")
    return _compiled(reference)


@functools.lru_cache(maxsize=4096)
def _compiled(text: str) -> _Schema:
    _warm_up()
    try:
        reference = _parse(text)
    except _NoJSON as error:
        return _Schema(problem=f"a reference must be a JSON schema: {error}")
    if not isinstance(reference, dict):
        return _Schema(problem=f"a JSON schema must be an object, not {type(reference).__name__}")
    is_wrapped = "schema" in reference and reference.keys() <= {"schema", "value"}
    schemas = [reference["schema"] if is_wrapped else reference]
    if is_wrapped and "value" in reference:
        schemas.append({"const": reference["value"]})
    try:
        return _Schema(tuple(map(_validator, schemas)))
    except ValueError as error:
        return _Schema(problem=str(error))


def _validator(schema: Any) -> Any:
    """Return the validator of a schema; raise ValueError for an invalid schema."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    if not isinstance(schema, dict):
        raise ValueError(f"a JSON schema must be an object, not {type(schema).__name__}")
    kind = validator_for(schema, default=None) if "$schema" in schema else Draft202012Validator
    if kind is None:
        raise ValueError(f"unknown $schema {schema['$schema']!r:.80}")
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.json_path}: {error.message:.200}") from None
    # An empty registry, because the default one opens URLs.
    return kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def _parse(text: str) -> Any:
    """Return the JSON value of a text that holds nothing else; raise _NoJSON."""
    _refuse_bombs(text)
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        raise _NoJSON(str(error)) from None


def _refuse_bombs(text: str) -> None:
    if len(text) > _LENGTH_LIMIT:
        raise _NoJSON(f"longer than {_LENGTH_LIMIT} characters")
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if depth > _DEPTH_LIMIT:
            raise _NoJSON(f"nested more than {_DEPTH_LIMIT} deep")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits:.20} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _find_json(completion: str) -> Any:
    """Return the value of the last fenced block (a ```json one if there is any), else the last one in the text."""
    text = visible(completion)
    if text is None or not text.strip():
        raise _NoJSON("no text")
    blocks = _FENCE.findall(text)
    for wanted in ("json", ""):
        bodies = [body for tag, body in blocks if tag.lower() == wanted]
        if bodies:
            return _parse(bodies[-1].strip())
    try:
        return _parse(text.strip())
    except _NoJSON:
        return _last_value(text)


# Reading stops after this many brackets that open no JSON value.
_TRIES_LIMIT = 32


def _last_value(text: str) -> Any:
    _refuse_bombs(text)
    found: list[Any] = []
    at = tries = 0
    while tries < _TRIES_LIMIT and (opening := _OPENING.search(text, at)):
        try:
            value, at = _DECODER.raw_decode(text, opening.start())
            found.append(value)
        except ValueError:
            at = opening.end()
            tries += 1
    if not found:
        raise _NoJSON("no JSON value")
    return found[-1]


@register(
    "json_schema",
    version="1",
    example=(
        'Here it is:\n```json\n{"name": "Ada", "age": 36}\n```',
        {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["name", "age"]},
    ),
    warm_up=_warm_up,
    bind=_bind,
    reference_problem=_reference_problem,
)
def json_schema(completion: str, reference: Any, *, strict: bool = False) -> Verdict:
    """The completion's JSON is valid under the reference, a JSON schema (or `{"schema": ..., "value": expected}`).

    The JSON is the last fenced block, else the last object or list in the text. It is refused if it has more than
    1,000,000 characters or 64 levels. Formats are checked.

    `strict`: the completion must be nothing but JSON.
    """
    schema = _read(reference)
    if schema.problem is not None:
        return Verdict.unknown("bad_reference", schema.problem)
    try:
        value = _parse((visible(completion) or "").strip()) if strict else _find_json(completion)
    except _NoJSON as error:
        return Verdict.incorrect("no_answer", str(error))
    return _judge(schema, value)


def _judge(schema: _Schema, value: Any) -> Verdict:
    from referencing.exceptions import Unresolvable

    try:
        error = next((error for validator in schema.validators for error in validator.iter_errors(value)), None)
    except Unresolvable as missing:
        return Verdict.unknown("bad_reference", f"cannot resolve {missing.ref!r}")
    except RecursionError:  # due to the schema, because the value is shallow
        return Verdict.unknown("bad_reference", "the schema refers to itself without end")
    if error is not None:
        return Verdict.incorrect("mismatch", f"{error.json_path}: {error.message}")
    return Verdict.correct(json.dumps(value, ensure_ascii=False))
