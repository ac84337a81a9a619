"""The registry of verifiers: `register`, `get`, and the `Check` that a registered verifier is."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar

from verifiers.plugins import Registry, VerifierError, option_faults, options_of, path_of

ENTRY_POINT_GROUP = "star_rft.verifiers"
DEFAULT_TIMEOUT = 5.0
# These name arguments of `verify`, `verify_many` and `as_reward`, so that no option can be called the same.
RESERVED_OPTIONS = frozenset({"name", "completion", "reference", "pairs", "workers", "timeout", "reference_column"})

Function = TypeVar("Function", bound=Callable[..., Any])


class UnknownOption(VerifierError):
    """The verifier has no such option, or the option has a value of the wrong type."""


class WorkerLoadError(RuntimeError):
    """A worker process could not load the verifier."""


@dataclass(frozen=True, slots=True)
class Example:
    completion: str
    reference: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A registered verifier. A float score is correct when it is >= `threshold`; with None always.

    `timeout` is the default limit per item in seconds; where the check holds a limit of its own, `time_option`
    names the option that sets it, and the caller's timeout goes there. `warm_up` loads what the check needs only
    sometimes. `reference_problem` says what is wrong with a reference, or None, so that bad data fails when it loads.
    `bind` makes the check that some options mean, where they name other verifiers: its `parts`.
    """

    name: str
    function: Callable[..., Any]
    version: str = "1"
    threshold: float | None = None
    timeout: float = DEFAULT_TIMEOUT
    summary: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    takes_any_option: bool = False
    example: Example | None = None
    warm_up: Callable[[], None] | None = None
    reference_problem: Callable[[Any], str | None] | None = None
    time_option: str | None = None
    bind: Callable[[Check, Mapping[str, Any]], Check] | None = None
    parts: tuple[Check, ...] = ()

    def bound(self, given: Mapping[str, Any]) -> Check:
        """Return the check as these options make it, which have been checked: a composition's limits and parts."""
        self.check_options(given)
        return self.bind(self, given) if self.bind else self

    def check_options(self, given: Mapping[str, Any]) -> None:
        """Raise UnknownOption for a misspelt, missing or mistyped option."""
        owner = f"verifier {self.name!r}"
        for fault in option_faults(given, self.options, owner=owner, takes_any=self.takes_any_option):
            raise UnknownOption(fault)


def register(
    name: str,
    *,
    version: str = "1",
    threshold: float | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    example: tuple[Any, ...] | None = None,
    warm_up: Callable[[], None] | None = None,
    reference_problem: Callable[[Any], str | None] | None = None,
    time_option: str | None = None,
    bind: Callable[[Check, Mapping[str, Any]], Check] | None = None,
    replace: bool = False,
) -> Callable[[Function], Function]:
    """Register `function(completion, reference, *, options) -> bool | float | Verdict` under a name.

    The function itself is returned unchanged. Its keyword-only parameters are the options; the first line
    of its docstring describes it. `example` is a completion and a reference that is `correct` with it, and options
    if it needs any. A name that another function holds is refused unless `replace` is true.
    """

    def decorate(function: Function) -> Function:
        check = describe(
            name,
            function,
            version=version,
            threshold=threshold,
            timeout=timeout,
            example=Example(*example) if example else None,
            warm_up=warm_up,
            reference_problem=reference_problem,
            time_option=time_option,
            bind=bind,
        )
        VERIFIERS.add(check, replace=replace)
        return function

    return decorate


def describe(name: str, function: Callable[..., Any], **facts: Any) -> Check:
    """Return the Check of a function: options from its signature, the one line from its docstring."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise VerifierError(
            f"verifier {name!r} must be a function (completion, reference, *, options), "
            f"but {path_of(function)} is {inspect.signature(function)}"
        )
    options = options_of(p for p in parameters if p.kind is p.KEYWORD_ONLY)
    if taken := RESERVED_OPTIONS & set(options):
        raise VerifierError(f"verifier {name!r} cannot have an option called {', '.join(sorted(taken))}")
    doc = inspect.getdoc(function) or ""
    return Check(
        name=name,
        function=function,
        summary=doc.split("\n", 1)[0],
        options=options,
        takes_any_option=any(p.kind is p.VAR_KEYWORD for p in parameters),
        **facts,
    )


VERIFIERS: Registry[Check] = Registry(
    "verifier", group=ENTRY_POINT_GROUP, package="verifiers.checks", describe=describe, may_replace=True
)
get, names = VERIFIERS.get, VERIFIERS.names


def add(check: Check) -> None:
    """Hold a check under its name, as a worker does with the parts of a composition."""
    VERIFIERS.items[check.name] = check


def importable_path(check: Check) -> str | None:
    """Return "pkg.module:function" if another process can import the check's function, else None."""
    module, _, qualname = path_of(check.function).partition(":")
    if module == "__main__" or not isinstance(check.function, FunctionType) or "<" in qualname:
        return None
    target: Any = importlib.import_module(module)
    for part in qualname.split("."):
        target = vars(target).get(part)
        if target is None:
            return None
    return f"{module}:{qualname}" if target is check.function else None
