"""Plug-ins by name: decorated functions, files of a package, entry points, "pkg.module:function".

Each kind of plug-in is one `Registry`: verifiers here; rules, scorers, objectives and engines in star_rft.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, Generic, Protocol, TypeVar


class VerifierError(ValueError):
    """A verifier was named, described or called wrongly."""


class UnknownVerifier(VerifierError):
    """No verifier has this name."""


class _RequiredOption:
    def __repr__(self) -> str:
        return "(required)"


REQUIRED = _RequiredOption()


class _Plugin(Protocol):
    """An item of a registry: a function under a name."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...


Item = TypeVar("Item", bound=_Plugin)


class Registry(Generic[Item]):
    """The plug-ins of one kind, by name.

    A name is one that was registered by a decorator, a file of `package`, an entry point of `group`, or
    "pkg.module:function". Nothing is imported before it is asked for.

    Args:
        kind: What the plug-ins are called in messages.
        group: Entry-point group of other distributions.
        describe: Makes an item of a name and a function that no decorator has registered.
        package: Package whose files register one plug-in each, named like the file, when they are imported.
        home: Module that registers the built-in plug-ins when it is imported.
        besides: Files of the package that are no plug-ins.
        error: Exception for a plug-in that cannot be loaded or added.
        unknown: Exception for a name that does not exist.
        may_replace: Whether the decorator of this kind has an argument `replace`, which messages then mention.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        describe: Callable[[str, Callable[..., Any]], Item],
        package: str | None = None,
        home: str | None = None,
        besides: Collection[str] = (),
        error: type[Exception] = VerifierError,
        unknown: type[Exception] = UnknownVerifier,
        may_replace: bool = False,
    ) -> None:
        self.kind, self.group, self.package, self._besides = kind, group, package, frozenset(besides)
        self._home, self._may_replace = home, may_replace
        self.items: dict[str, Item] = {}
        self._describe, self._error, self._unknown = describe, error, unknown

    def add(self, item: Item, *, replace: bool = False) -> None:
        """Put an item into the registry; raise `error` for a name that another function holds, unless `replace`."""
        name, function = item.name, item.function
        self._import_home(function.__module__)
        if not name or ":" in name:
            raise self._error(f"a {self.kind}'s name must not be empty or contain ':', but is {name!r}")
        holder = path_of(self.items[name].function) if name in self.items else None
        if holder is None and name in self.builtin_names():
            holder = f"{self.package}.{name}:{name}"
        # The same path again is a notebook cell that was run twice, or a module that was reloaded.
        is_own = holder == path_of(function) or function.__module__ == f"{self.package}.{name}"
        if holder is not None and not is_own and not replace:
            how = "pass replace=True to replace it" if self._may_replace else "choose another"
            raise self._error(f"the name {name!r} is taken by {holder}; {how}")
        self.items[name] = item

    def names(self) -> list[str]:
        """Return every name that `get` accepts, sorted, apart from "pkg.module:function" paths."""
        self._import_home()
        return sorted({*self.items, *self.builtin_names(), *self.entry_points()})

    def get(self, name: str, *, also: Collection[str] = ()) -> Item:
        """Return the item of a name, importing its module on first use.

        Args:
            name: A registered name, a built-in one, an entry point, or "pkg.module:function".
            also: Names that are valid where this one was given and are none of the registry's, for the error.

        Raises:
            UnknownVerifier: No item has this name (another exception in other registries, as for VerifierError).
            VerifierError: The entry point cannot be loaded, or the function has the wrong parameters.
        """
        self._import_home()
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
        valid = sorted({*self.names(), *also})
        raise self._unknown(
            f"unknown {self.kind} {name!r}{did_you_mean(name, valid)};"
            f" valid: {', '.join(valid)}, or 'pkg.module:function'"
        )

    def is_importable(self, name: str) -> bool:
        """Whether another process finds this name too: not what only a decorator in this process has registered."""
        self._import_home()
        is_of_home = name in self.items and self.items[name].function.__module__ == self._home
        return ":" in name or is_of_home or name in self.builtin_names() or name in self.entry_points()

    @functools.cache  # noqa: B019  # a registry lives as long as the program
    def builtin_names(self) -> tuple[str, ...]:
        """Return the names of the package's plug-ins, which are those of its files; imports none of them."""
        if self.package is None:
            return ()
        (folder,) = importlib.import_module(self.package).__path__
        modules = {name[:-3] for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("_")}
        return tuple(sorted(modules - self._besides))

    @functools.cache  # noqa: B019
    def entry_points(self) -> Mapping[str, Any]:
        """Return the entry points of the group by name, unloaded."""
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self.group)}

    def _import_home(self, asking: str | None = None) -> None:
        if self._home is not None and asking != self._home:
            importlib.import_module(self._home)

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
        """Return the item of a function; one that is registered under another name keeps its settings."""
        for item in self.items.values():
            if item.function is function:
                return replace(item, name=name)  # type: ignore[type-var]  # every item is a dataclass
        return self._describe(name, function)


def describer(
    make: Callable[..., Item], *, kind: str, takes: str, error: type[Exception]
) -> Callable[[str, Callable[..., Any]], Item]:
    """Return the `describe` of a registry whose items are `make(name, function, options, annotations)`.

    Their functions are `function(takes, *, option=...)`; `error` is raised for another shape.
    """

    def describe(name: str, function: Callable[..., Any]) -> Item:
        return make(name, function, *keyword_options(name, function, kind=kind, takes=takes, error=error))

    return describe


def keyword_options(
    name: str, function: Callable[..., Any], *, kind: str, takes: str, error: type[Exception]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two dicts for a `function(takes, *, option=...)`: the options' defaults, and their annotations.

    An annotation that is missing or cannot be evaluated is `Any`. Raises `error` for a function of another shape.
    """
    shape = f"{kind} {name!r} must be a function ({takes}, *, options)"
    if not callable(function) or isinstance(function, type):
        raise error(f"{shape}, but is {'a class' if isinstance(function, type) else repr(function)}")
    parameters = list(inspect.signature(function).parameters.values())
    first, others = parameters[:1], parameters[1:]
    is_positional = [p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in first]
    if is_positional != [True] or any(p.kind is not p.KEYWORD_ONLY for p in others):
        raise error(f"{shape}, but {path_of(function)} is {inspect.signature(function)}")
    return options_of(others), {p.name: _evaluated(p.annotation, function) for p in others}


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(function, "__globals__", {}))
    except Exception:  # noqa: BLE001  # such as a name that only type checkers import
        return Any


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
    """Yield one line on each option that is unknown, missing or of the wrong type.

    With `annotations`, pydantic checks values against them, without conversion; else a value must have the type of
    the option's default.
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
    """Whether a value has the type of a bool, int, float or str default; other defaults allow anything."""
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
    """Return " (did you mean ...?)" with the most similar valid word; empty where none is similar."""
    from difflib import get_close_matches

    close = get_close_matches(str(word), list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def path_of(function: Callable[..., Any]) -> str:
    """Return "pkg.module:name"; for a callable object the name of its class."""
    name = function.__qualname__ if isinstance(function, FunctionType) else type(function).__qualname__
    return f"{function.__module__}:{name}"
