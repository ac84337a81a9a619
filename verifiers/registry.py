"""Names -> verifiers: decorated functions, files in `checks/`, entry points, "pkg.module:function"."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, NoReturn, TypeVar

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


class _RequiredOption:
    def __repr__(self) -> str:
        return "(required)"


REQUIRED = _RequiredOption()


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
        for option, value in given.items():
            if option not in self.options:
                if self.takes_any_option:
                    continue
                valid = ", ".join(f"{key}={default!r}" for key, default in self.options.items())
                raise UnknownOption(
                    f"verifier {self.name!r} has no option {option!r}{_did_you_mean(option, self.options)}; "
                    f"valid options: {valid or 'none'}"
                )
            default = self.options[option]
            if not _fits(value, default):
                raise UnknownOption(
                    f"option {option!r} of verifier {self.name!r} must be {_kind(default)}, not {value!r}"
                )
        missing = [key for key, default in self.options.items() if default is REQUIRED and key not in given]
        if missing:
            raise UnknownOption(f"verifier {self.name!r} needs the option {', '.join(map(repr, missing))}")


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


def _did_you_mean(word: str, valid: Any) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


_registered: dict[str, Check] = {}


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
    if not name or ":" in name:
        raise VerifierError(f"a verifier's name must not be empty or contain ':', but is {name!r}")

    def decorate(function: Function) -> Function:
        _refuse_taken(name, function, replace)
        _registered[name] = describe(
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
        return function

    return decorate


def _refuse_taken(name: str, function: Callable[..., Any], may_replace: bool) -> None:
    holder = _path_of(_registered[name].function) if name in _registered else None
    if holder is None and name in builtin_names():
        holder = f"verifiers.checks.{name}:{name}"
    # The same path again is a notebook cell that was run twice, or a module that was reloaded.
    is_own = holder == _path_of(function) or function.__module__ == f"verifiers.checks.{name}"
    if holder is not None and not is_own and not may_replace:
        raise VerifierError(f"the name {name!r} is taken by {holder}; pass replace=True to replace it")


def describe(name: str, function: Callable[..., Any], **facts: Any) -> Check:
    """Return the Check of a function: options from its signature, the one line from its docstring."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise VerifierError(
            f"verifier {name!r} must be a function (completion, reference, *, options), "
            f"but {_path_of(function)} is {inspect.signature(function)}"
        )
    options = {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
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


def _path_of(function: Callable[..., Any]) -> str:
    name = function.__qualname__ if isinstance(function, FunctionType) else type(function).__qualname__
    return f"{function.__module__}:{name}"


@functools.cache
def builtin_names() -> tuple[str, ...]:
    """The files in `verifiers/checks/`; reading the folder imports none of them."""
    folder = os.path.join(os.path.dirname(__file__), "checks")
    return tuple(sorted(f[:-3] for f in os.listdir(folder) if f.endswith(".py") and not f.startswith("_")))


@functools.cache
def _entry_points() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def names() -> list[str]:
    """Every name that `get` accepts, sorted; "pkg.module:function" paths work besides."""
    return sorted({*_registered, *builtin_names(), *_entry_points()})


def get(name: str) -> Check:
    """Return the verifier of this name, importing its module on first use; raise UnknownVerifier if none."""
    if name in _registered:
        return _registered[name]
    if ":" in name:
        return _from_path(name)
    if name in builtin_names():
        importlib.import_module(f"verifiers.checks.{name}")
        return _registered[name]
    if name in _entry_points():
        function = _load(_entry_points()[name])
        # Importing the module may have registered the name by the decorator, with its version and threshold.
        return _registered.get(name) or _registered.setdefault(name, _known_or_described(name, function))
    return _refuse_unknown(name)


def _load(point: Any) -> Callable[..., Any]:
    """Return the function of an entry point; whatever its package raises becomes one line that names it."""
    try:
        function = point.load()
    except Exception as error:  # another package's import may fail in any way
        raise VerifierError(
            f"verifier {point.name!r}: the entry point {point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise VerifierError(f"verifier {point.name!r}: the entry point {point.value} is no function")
    loaded: Callable[..., Any] = function
    return loaded


def _refuse_unknown(name: str) -> NoReturn:
    valid = names()
    raise UnknownVerifier(
        f"unknown verifier {name!r}{_did_you_mean(name, valid)}; valid: {', '.join(valid)}, or 'pkg.module:function'"
    )


def _from_path(path: str) -> Check:
    module_name, _, qualname = path.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but lacks a dependency of its own is not a misspelt path.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UnknownVerifier(f"verifier {path!r}: no module named {error.name!r} can be imported") from error
    for part in qualname.split("."):
        if part not in vars(target):
            functions = [key for key, value in vars(target).items() if isinstance(value, FunctionType)]
            raise UnknownVerifier(
                f"verifier {path!r}: {module_name} has no {qualname!r}{_did_you_mean(qualname, functions)}"
            )
        target = vars(target)[part]
    return _known_or_described(path, target)


def _known_or_described(name: str, function: Callable[..., Any]) -> Check:
    """A function that was also decorated keeps its version, threshold and limits under another name."""
    for check in _registered.values():
        if check.function is function:
            return replace(check, name=name)
    return describe(name, function)


def add(check: Check) -> None:
    """Hold a check under its name, as a worker does with the parts of a composition."""
    _registered[check.name] = check


def importable_path(check: Check) -> str | None:
    """Return "pkg.module:function" if another process can import the check's function, else None."""
    module, _, qualname = _path_of(check.function).partition(":")
    if module == "__main__" or not isinstance(check.function, FunctionType) or "<" in qualname:
        return None
    target: Any = importlib.import_module(module)
    for part in qualname.split("."):
        target = vars(target).get(part)
        if target is None:
            return None
    return f"{module}:{qualname}" if target is check.function else None
