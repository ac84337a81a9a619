"""The registry of engines: what draws completions, by the names that `sample.backend` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from star_rft.errors import UserError
from star_rft.models.spec import ModelSpec
from star_rft.types import Sampler
from verifiers.plugins import Registry, describer, option_faults

# The value of `sample.backend` that is no engine: a cluster, whose nodes run the engine that `ray.engine` names.
CLUSTER = "ray"
Version = str | Callable[..., str]


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine is given to load a model: the config's section `model`, and where the run lies.

    Attributes:
        model: A checkpoint (`model.path`: a folder in the layout of transformers, or a hub name) and how it is loaded.
        folder: The run folder, for logs.
        batch_size: The config's `sample.batch_size`: completions drawn at once; None leaves it to the engine.
    """

    model: ModelSpec
    folder: Path
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class EnginePlugin:
    """An engine by name: `function(context, *, option=...)` loads a model and returns the sampler that draws from it.

    `version` goes into the ledger with every sample, and samples of two versions do not mix in one run. A callable is
    called with the options, before a model is loaded.
    """

    name: str
    function: Callable[..., Sampler]
    options: Mapping[str, Any]
    annotations: Mapping[str, Any]
    version: Version = "1"

    def version_of(self, options: Mapping[str, Any]) -> str:
        """Return the version that is recorded for these options; UserError where what it needs is not installed."""
        if isinstance(self.version, str):
            return self.version
        found = self.version(**{**self.options, **options})
        if not isinstance(found, str):
            raise UserError(f"engine {self.name!r}: its version is {found!r}, which is no text")
        return found


_described = describer(EnginePlugin, kind="engine", takes="context", error=UserError)
ENGINES: Registry[EnginePlugin] = Registry(
    "engine",
    group="star_rft.engines",
    home="star_rft.engines.builtin",
    describe=_described,
    error=UserError,
    unknown=UserError,
)
Function = TypeVar("Function", bound=Callable[..., Sampler])


def engine(name: str, *, version: Version = "1") -> Callable[[Function], Function]:
    """Register `function(context, *, option=...) -> Sampler` as the engine of a name.

    `context` is an `EngineContext`. Keyword arguments are the options that a config may give in
    `sample.engine_options`, with the types of their annotations. Without the decorator a config names an engine by
    "pkg.module:function".

    Args:
        name: What `sample.backend` calls it.
        version: What the samples depend on besides model and decoding, such as a library's version: a text, or a
            function that takes all options, the defaults of those that are not given too, and returns one. Another
            version is not mixed with it in one run.

    Raises:
        UserError: The name is taken, or the function has another shape.
    """

    def decorate(function: Function) -> Function:
        if name == CLUSTER:
            raise UserError(f"the name {CLUSTER!r} is that of a cluster; choose another")
        ENGINES.add(replace(_described(name, function), version=version))
        return function

    return decorate


def check_engine(name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError for an engine that does not exist, or options that it does not have."""
    plugin = ENGINES.get(name)
    for fault in option_faults(options, plugin.options, owner=f"engine {name!r}", annotations=plugin.annotations):
        raise UserError(fault)
