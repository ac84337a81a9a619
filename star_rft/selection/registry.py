"""The registry of selection rules, and the check of a config's list of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from star_rft.selection.candidates import RuleError
from verifiers.plugins import REQUIRED, Registry, describer, option_faults

Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Rule:
    """A selection rule.

    Attributes:
        name: Its name in a config.
        function: `function(pool, *, option=...)`, which drops traces of a `CandidateTable`.
        options: Options with their defaults; `verifiers.plugins.REQUIRED` for one without.
        annotations: The types of the options.
    """

    name: str
    function: Callable[..., None]
    options: Mapping[str, Any]
    annotations: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """Return the first paragraph of the function's docstring on one line."""
        return " ".join((self.function.__doc__ or "").split("\n\n")[0].split())


_described = describer(Rule, kind="rule", takes="pool", error=RuleError)
RULES: Registry[Rule] = Registry(
    "rule",
    group="star_rft.rules",
    home="star_rft.selection.rules",
    describe=_described,
    error=RuleError,
    unknown=RuleError,
)


def rule(function: Function) -> Function:
    """Register a function as the selection rule of its name, for `select.rules` of a config.

    A function that is not registered is named by "pkg.module:function" there.

    Args:
        function: `function(pool, *, option=...)`, where `pool` is a `CandidateTable`. The keyword arguments are the
            rule's options, checked against their annotations. The first one may be given alone: `{cap: 4}` is
            `{cap: {limit: 4}}`.

    Returns:
        The function.
    """
    RULES.add(_described(function.__name__, function))
    return function


def bound(specs: Sequence[Any]) -> list[partial[None]]:
    """Return the rules of a list as functions of a `CandidateTable`, with their options filled in.

    Args:
        specs: Each a name, or a mapping of one name to the value of its first option or to all its options.

    Raises:
        RuleError: A rule does not exist, or has a wrong option.
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
    try:
        found = RULES.get(str(name))
    except RuleError as error:
        raise RuleError(f"select.rules: {error}") from error
    if not isinstance(given, Mapping):
        if not found.options:
            raise RuleError(f"select.rules: rule {name!r} takes no options")
        given = {next(iter(found.options)): given}
    for fault in option_faults(given, found.options, owner=f"rule {name!r}", annotations=found.annotations):
        raise RuleError(f"select.rules: {fault}")
    return partial(found.function, **given)


def signature(name: str) -> str:
    """Return the options of a rule as text: "limit, prefer = first"."""
    options = RULES.get(name).options
    return ", ".join(key if value is REQUIRED else f"{key} = {value}" for key, value in options.items())
