"""The registry of verifiers: `register` and `get`, and `Check`, the record of a registered verifier."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar

from verifiers.plugins import Registry, VerifierError, option_faults, options_of, path_of

ENTRY_POINT_GROUP = "star_rft.verifiers"
_DEFAULT_TIMEOUT = 5.0  # seconds an item
# Arguments of `verify`, `verify_many` and `as_reward`: an option with one of these names could not be passed.
_RESERVED_OPTIONS = frozenset({"name", "completion", "reference", "pairs", "workers", "timeout", "reference_column"})

Function = TypeVar("Function", bound=Callable[..., Any])


class UnknownOption(VerifierError):
    """The verifier has no such option, or the option has a value of the wrong type."""


class WorkerLoadError(RuntimeError):
    """A worker process could not load the verifier."""


@dataclass(frozen=True, slots=True)
class Example:
    """A completion that is correct for a reference under some options; `--list` shows it."""

    completion: str
    reference: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """A registered verifier. `register` makes one of a function.

    Attributes:
        name: Name in the registry.
        function: The function that checks one completion.
        version: Changes when the same input may get another verdict.
        threshold: A numeric score from this value up is correct; with None every score is.
        timeout: Default time limit in seconds an item.
        summary: First line of the function's docstring.
        options: Options with their defaults, `plugins.REQUIRED` where there is none.
        takes_any_option: Whether the function has `**options`.
        example: A completion that is correct.
        warm_up: Loads what only some items need; idle workers call it.
        reference_problem: Returns what is wrong with a reference, or None, so that bad data is found when it loads.
        time_option: Name of the option that sets a time limit which the check keeps itself.
        bind: Returns the check for given options, where limits and versions depend on them.
        parts: For a composition that was bound, the checks that it runs.
    """

    name: str
    function: Callable[..., Any]
    version: str = "1"
    threshold: float | None = None
    timeout: float = _DEFAULT_TIMEOUT
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
        """Return the check for these options: for a composition with the time limit and version of its parts.

        Args:
            given: Options by name.

        Raises:
            UnknownOption: An option is misspelt, missing or has a value of the wrong type.
        """
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
    timeout: float = _DEFAULT_TIMEOUT,
    example: tuple[Any, ...] | None = None,
    warm_up: Callable[[], None] | None = None,
    reference_problem: Callable[[Any], str | None] | None = None,
    time_option: str | None = None,
    bind: Callable[[Check, Mapping[str, Any]], Check] | None = None,
    replace: bool = False,
) -> Callable[[Function], Function]:
    """Register `function(completion, reference, *, options) -> bool | float | Verdict` under a name.

    The function's keyword-only parameters are the options; the first line of its docstring describes it.

        >>> @verifiers.register("longer_than")
        ... def longer_than(completion: str, reference: int) -> bool:
        ...     return len(completion) > reference

    Args:
        name: Name for `get` and the configs.
        version: Change it when the same input may get another verdict.
        threshold: A numeric score from this value up is correct; with None every score is.
        timeout: Default time limit in seconds an item.
        example: (completion, reference) or (completion, reference, options) that is correct.
        warm_up: Loads what only some items need; idle workers call it.
        reference_problem: Takes a reference and returns what is wrong with it, or None.
        time_option: Option in seconds that the function keeps as its own time limit; `timeout` is passed there.
        bind: Takes the check and its options and returns the check to use.
        replace: Whether to take a name that another function holds.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        VerifierError: The function has other parameters than these, or the name is taken.
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
    """Return the Check of a function: options from its signature, the summary from its docstring."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise VerifierError(
            f"verifier {name!r} must be a function (completion, reference, *, options), "
            f"but {path_of(function)} is {inspect.signature(function)}"
        )
    options = options_of(p for p in parameters if p.kind is p.KEYWORD_ONLY)
    if taken := _RESERVED_OPTIONS & set(options):
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
    """Put a check into the registry unconditionally, as a worker does with the parts of a composition."""
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
