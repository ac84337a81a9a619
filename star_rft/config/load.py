"""Reads configs from YAML and overrides; errors name the file, the key and the valid values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from star_rft.config.run import Config
from star_rft.errors import UserError


class ConfigError(UserError):
    """A config that cannot be run: the text names the file, the key, the value and what is valid."""


# Changing these between two calls of one run cannot mix incompatible samples.
CHANGEABLE = {
    "about",
    "name",
    "run_dir",
    "rounds",
    "versions",
    "machine",
    "forked_from",
    "verifier.workers",
    "verifier.timeout",
    "train.save_steps",
    "gate",
    "report_to",
    "vllm",
    "server",
    "ray",
    "launch",
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML alone reads `lr: 1e-5` as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def load(source: str | Path | Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any] = ()) -> Config:
    """Read a YAML file (or take a mapping), apply overrides, validate.

    Args:
        source: A file, or its content as a mapping.
        overrides: `key.sub=value` texts, or a mapping of such keys to values.

    Raises:
        ConfigError: It cannot be read, or a key or value is not valid; with file, key and what is valid, a line each.
    """
    raw, origin = (dict(source), "config") if isinstance(source, Mapping) else (_read(Path(source)), str(source))
    for key, value in pairs(overrides).items():
        _set(raw, key, value)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {_explain(problem)}" for problem in error.errors())) from None
    config._origin = origin
    return config


def pairs(overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides as a mapping of keys to values, whichever way they were given."""
    return dict(overrides) if isinstance(overrides, Mapping) else dict(map(_split_override, overrides))


def dump(config: Config) -> str:
    """Return a config as YAML with every key, which `load` reads as an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def changes(old: Config, new: Config, *, besides: Collection[str] = ()) -> list[str]:
    """Name the keys that differ and that would mix incompatible samples in one run folder.

    `besides` are further keys or sections that may differ.
    """
    a, b = (
        flatten(old.model_dump(mode="json", by_alias=True)),
        flatten(new.model_dump(mode="json", by_alias=True)),
    )
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return [
        f"{key}: {a.get(key)!r} -> {b.get(key)!r}"
        for key in keys
        if not {key, key.split(".")[0]} & {*CHANGEABLE, *besides}
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of sections ({', '.join(Config.model_fields)})")
    return raw


def _split_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r} must look like key.sub=value, for example sample.n=16")
    if _is_text(key):
        return key, _text(value)
    try:
        return key, yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, ValueError):  # a ValueError for what looks like a date and is none
        return key, value


def _is_text(key: str) -> bool:
    """Whether a key holds text and no other kind of value: then `{question}` is no mapping and `7` no number."""
    *parents, last = key.split(".")
    model: type[BaseModel] | None = Config
    for part in parents:
        field = _field(model, part) if model else None
        model = _section_in(field.annotation) if field else None
    field = _field(model, last) if model else None
    return field is not None and field.annotation in (str, str | None)


def _text(value: str) -> str | None:
    """Take text as it is, but for null, and for the quotes and escapes of YAML where it begins with a quote."""
    if value in ("null", "~"):
        return None
    try:
        return str(yaml.load(value, Loader=_Loader)) if value[:1] in ("'", '"') else value
    except yaml.YAMLError:
        return value


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = raw
    for part in parents:
        child = node.get(part)
        if isinstance(child, str) and parents[0] == "data":
            child = {"source": child}
        node[part] = dict(child) if isinstance(child, Mapping) else {}
        node = node[part]
    node[last] = value


def _explain(problem: Any) -> str:
    """One line for one of pydantic's errors: the key, the value, what is valid."""
    location = [part for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
    key = ".".join(str(part) for part in location) or "config"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        valid = _keys_of(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{key}: no such key{hint}; valid here: {', '.join(valid)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key}: {problem['input']!r} is not valid: {message[0].lower()}{message[1:]}"


def _keys_of(location: Iterable[str | int]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        field = _field(model, part)
        section = _section_in(field.annotation) if field else None
        if section is None:
            return []
        model = section
    return [field.alias or name for name, field in model.model_fields.items()]


def _field(model: type[BaseModel], key: str | int) -> FieldInfo | None:
    return next((field for name, field in model.model_fields.items() if (field.alias or name) == key), None)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
