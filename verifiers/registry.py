"""Plug-ins by name: decorated functions, files of a package, entry points, "pkg.module:function".

`Registry` is what every kind of plug-in instantiates, in star_rft too; the verifiers are the first of them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, Generic, Protocol, TypeVar

ENTRY_POINT_GROUP = "star_rft.verifiers"
DEFAULT_TIMEOUT = 5.0
# These name arguments of `verify`, `verify_many` and `as_reward`, so that no option can be called the same.
RESERVED_OPTIONS = frozenset({"name", "completion", "reference", "pairs", "workers", "timeout", "reference_column"})

Function = TypeVar("Function", bound=Callable[..., Any])


class VerifierError(ValueError):
    """The caller named or described a verifier wrongly."""


class UnknownVerifier(VerifierError):
    """No verifier has this name."""


class UnknownOption(VerifierError):
    """The verifier has no such option, or the option has a value of the wrong type."""


class WorkerLoadError(RuntimeError):
    """A worker process could not load the verifier."""


# Plug-ins of any kind


class _RequiredOption:
    def __repr__(self) -> str:
        return "(required)"


REQUIRED = _RequiredOption()


class Plugin(Protocol):
    """What a registry holds: a function under a name."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...


Item = TypeVar("Item", bound=Plugin)


class Registry(Generic[Item]):
    """The plug-ins of one kind, by name.

    A name is one that was registered, a file of `package` that registers itself when it is imported, an entry point of
    `group`, or "pkg.module:function". `describe(name, function)` makes an item of a function that was not registered.
    `unknown` is raised for a name that is none of these, `error` for whatever else is wrong with it. `besides` are
    files of the package that are no plug-ins.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        describe: Callable[[str, Callable[..., Any]], Item],
        package: str | None = None,
        besides: Collection[str] = (),
        error: type[Exception] = VerifierError,
        unknown: type[Exception] = UnknownVerifier,
    ) -> None:
        self.kind, self.group, self.package, self._besides = kind, group, package, frozenset(besides)
        self.items: dict[str, Item] = {}
        self._describe, self._error, self._unknown = describe, error, unknown

    def add(self, item: Item, *, replace: bool = False) -> None:
        """Hold an item under its name; a name that another function holds is refused unless `replace` is true."""
        name, function = item.name, item.function
        if not name or ":" in name:
            raise self._error(f"a {self.kind}'s name must not be empty or contain ':', but is {name!r}")
        holder = path_of(self.items[name].function) if name in self.items else None
        if holder is None and name in self.builtin_names():
            holder = f"{self.package}.{name}:{name}"
        # The same path again is a notebook cell that was run twice, or a module that was reloaded.
        is_own = holder == path_of(function) or function.__module__ == f"{self.package}.{name}"
        if holder is not None and not is_own and not replace:
            raise self._error(f"the name {name!r} is taken by {holder}; pass replace=True to replace it")
        self.items[name] = item

    def names(self) -> list[str]:
        """Every name that `get` accepts, sorted; "pkg.module:function" paths work besides."""
        return sorted({*self.items, *self.builtin_names(), *self.entry_points()})

    def get(self, name: str) -> Item:
        """Return the item of this name, importing its module on first use."""
        if name in self.items:
            return self.items[name]
        if ":" in name:
            return self._from_path(name)
        if name in self.builtin_names():
            importlib.import_module(f"{self.package}.{name}")
            return self.items[name]
        if name in self.entry_points():
            function = self._load(self.entry_points()[name])
            # Importing the module may have registered the name by the decorator, with its version and threshold.
            return self.items.get(name) or self.items.setdefault(name, self._known_or_described(name, function))
        valid = self.names()
        raise self._unknown(
            f"unknown {self.kind} {name!r}{did_you_mean(name, valid)};"
            f" valid: {', '.join(valid)}, or 'pkg.module:function'"
        )

    @functools.cache  # noqa: B019  # a registry lives as long as the program
    def builtin_names(self) -> tuple[str, ...]:
        """The files of the package; none of them is imported."""
        if self.package is None:
            return ()
        (folder,) = importlib.import_module(self.package).__path__
        modules = {name[:-3] for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("_")}
        return tuple(sorted(modules - self._besides))

    @functools.cache  # noqa: B019
    def entry_points(self) -> Mapping[str, Any]:
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self.group)}

    def _load(self, point: Any) -> Callable[..., Any]:
        """Return the function of an entry point; whatever its package raises becomes one line that names it."""
        try:
            function = point.load()
        except Exception as error:  # another package's import may fail in any way
            raise self._error(
                f"{self.kind} {point.name!r}: the entry point {point.value} cannot be loaded:"
                f" {type(error).__name__}: {error}"
            ) from error
        if not callable(function):
            raise self._error(f"{self.kind} {point.name!r}: the entry point {point.value} is no function")
        loaded: Callable[..., Any] = function
        return loaded

    def _from_path(self, path: str) -> Item:
        module_name, _, qualname = path.partition(":")
        try:
            target: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # A module that is there but lacks a dependency of its own is not a misspelt path.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise self._unknown(f"{self.kind} {path!r}: no module named {error.name!r} can be imported") from error
        for part in qualname.split("."):
            if part not in vars(target):
                functions = [key for key, value in vars(target).items() if isinstance(value, FunctionType)]
                raise self._unknown(
                    f"{self.kind} {path!r}: {module_name} has no {qualname!r}{did_you_mean(qualname, functions)}"
                )
            target = vars(target)[part]
        return self._known_or_described(path, target)

    def _known_or_described(self, name: str, function: Callable[..., Any]) -> Item:
        """A function that was also decorated keeps what it was registered with under another name."""
        for item in self.items.values():
            if item.function is function:
                return replace(item, name=name)  # type: ignore[type-var]  # every item is a dataclass
        return self._describe(name, function)


def options_of(parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """Return options by name with their defaults, `REQUIRED` where there is none."""
    return {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters}


def option_faults(
    given: Mapping[str, Any],
    valid: Mapping[str, Any],
    *,
    owner: str,
    takes_any: bool = False,
    annotations: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Yield what is wrong with options: a name that is not there, a value of another type, one that is missing.

    Types are those of the defaults; with `annotations` those, which pydantic checks without converting.
    """
    for option, value in given.items():
        if option not in valid:
            if not takes_any:
                shown = ", ".join(f"{key}={reprlib.repr(default)}" for key, default in valid.items()) or "none"
                yield f"{owner} has no option {option!r}{did_you_mean(option, valid)}; valid options: {shown}"
        elif annotations is not None:
            if fault := _annotation_fault(value, annotations.get(option, Any)):
                yield f"option {option!r} of {owner}: {value!r} is not valid: {fault}"
        elif not _fits(value, valid[option]):
            yield f"option {option!r} of {owner} must be {_kind(valid[option])}, not {value!r}"
    if missing := [key for key, default in valid.items() if default is REQUIRED and key not in given]:
        yield f"{owner} needs the option {', '.join(map(repr, missing))}"


def _annotation_fault(value: Any, annotation: Any) -> str | None:
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return message[0].lower() + message[1:]
    return None


def _kind(default: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(
        type(default), type(default).__name__
    )


def _fits(value: Any, default: Any) -> bool:
    """A value fits a default of the same simple type; other defaults say nothing about types."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, str):
        return isinstance(value, str)
    return True


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(str(word), list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def path_of(function: Callable[..., Any]) -> str:
    name = function.__qualname__ if isinstance(function, FunctionType) else type(function).__qualname__
    return f"{function.__module__}:{name}"


# Verifiers


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
    "verifier", group=ENTRY_POINT_GROUP, package="verifiers.checks", describe=describe
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
