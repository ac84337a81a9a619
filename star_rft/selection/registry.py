"""Selection rules by name: how a config's list becomes calls, and what is said when it does not fit."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from star_rft.selection.candidates import RuleError

Rule = Callable[..., None]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule `name(pool, *, option=...)` under the name of its function.

    The first option is the one that a config may give alone: `{cap: 4}` is `{cap: {limit: 4}}`.
    """
    RULES[function.__name__] = function
    return function


def bound(specs: Sequence[Any]) -> list[partial[None]]:
    """Return the rules of a config's list, ready to call; raise RuleError for what is no rule.

    A rule is a name, or a mapping of one name to its first option or to all of them.
    """
    return [_bound(spec) for spec in specs]


def _bound(spec: Any) -> partial[None]:
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise RuleError(
            f"select.rules: {spec!r} is no rule; write a name, {{name: value}} or {{name: {{option: value}}}}"
        )
    ((name, given),) = spec.items()
    if name not in RULES:
        close = difflib.get_close_matches(str(name), RULES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RuleError(f"select.rules: there is no rule {name!r}{hint}; valid: {', '.join(sorted(RULES))}")
    function = RULES[name]
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    if not isinstance(given, Mapping):
        if not parameters:
            raise RuleError(f"select.rules: {name} takes no options")
        given = {parameters[0].name: given}
    _check(name, given, parameters)
    return partial(function, **given)


def signature(name: str) -> str:
    """Return a rule's options as one reads them: "limit, prefer = first"."""
    parameters = list(inspect.signature(RULES[name]).parameters.values())[1:]
    return ", ".join(p.name if p.default is p.empty else f"{p.name} = {p.default}" for p in parameters)


def _check(name: str, given: Mapping[str, Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Hold options against the signature and its annotations, which are plain types or literals."""
    valid = {parameter.name: parameter for parameter in parameters}
    if unknown := [option for option in given if option not in valid]:
        raise RuleError(f"select.rules: {name} has no option {unknown[0]!r}; valid: {', '.join(valid) or 'none'}")
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if missing:
        raise RuleError(f"select.rules: {name} needs {missing[0]!r}, for example {{{name}: {{{missing[0]}: ...}}}}")
    for option, value in given.items():
        try:
            TypeAdapter(valid[option].annotation).validate_python(value, strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise RuleError(
                f"select.rules: {name}.{option}: {value!r} is not valid: {message[0].lower()}{message[1:]}"
            ) from None
