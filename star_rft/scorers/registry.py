"""The registry of scorers, and scoring of the traces of a round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from star_rft.data import Prompter
from star_rft.errors import UserError
from star_rft.ledger.traces import traces_of
from star_rft.models.spec import ModelSpec
from star_rft.progress import Advance
from star_rft.training.dataset import SampleOrigin
from star_rft.types import Model, Problem, Sampler, Scorer, Split, Trace
from verifiers.plugins import Registry, describer, option_faults

if TYPE_CHECKING:
    import duckdb

# Traces that are scored at once, rounded up to whole problems.
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a run scores.

    Attributes:
        name: Name of the scorer.
        make: Opens the scorer, given the policy.
        threshold: A score of this or more is correct; None: every score is.
        decides: The status by the scorer counts in place of the verifier's.
        frees_policy: The policy is freed first, as the scorer is a model of its own: one at a time is in memory.
    """

    name: str
    make: Callable[[Model], Scorer]
    threshold: float | None
    decides: bool
    frees_policy: bool = True

    def status(self, score: float | None) -> str:
        """Return the status that a score means; `unknown` for None."""
        if score is None:
            return "unknown"
        return "correct" if self.threshold is None or score >= self.threshold else "incorrect"


@dataclass(frozen=True, slots=True)
class ScorerContext:
    """What a scorer may need of a run.

    Attributes:
        model: The model that scores (`model.path`): the policy, or the one that `scorer.model` names.
        sampler: Opens a sampler of a model.
        fingerprint: Returns the hash of a model's weights.
        prompter: Renders problems as they were sampled.
        origin: How the samples were drawn, by which their tokens are read.
        into: Folder that a model may be converted into.
        seed: Of whatever the scorer draws.
    """

    model: ModelSpec
    sampler: Callable[[Model], Sampler]
    fingerprint: Callable[[Model], str]
    prompter: Prompter
    origin: SampleOrigin
    into: Path
    seed: int


@dataclass(frozen=True, slots=True)
class ScorerPlugin:
    """A registered scorer.

    Attributes:
        name: Its name in a config.
        function: `function(context, *, option=...)`, which opens it.
        options: Options with their defaults.
        annotations: The types of the options.
        asks_model: It may use a model, which `scorer.model` names.
        needs_model: It cannot work without one.
    """

    name: str
    function: Callable[..., Scorer]
    options: Mapping[str, Any]
    annotations: Mapping[str, Any]
    asks_model: bool = False
    needs_model: bool = False


_described = describer(ScorerPlugin, kind="scorer", takes="context", error=UserError)
SCORERS: Registry[ScorerPlugin] = Registry(
    "scorer",
    group="star_rft.scorers",
    package="star_rft.scorers",
    besides=("registry", "verdict"),
    describe=_described,
    error=UserError,
    unknown=UserError,
)
Function = TypeVar("Function", bound=Callable[..., Scorer])


def scorer(*, asks_model: bool = False, needs_model: bool = False) -> Callable[[Function], Function]:
    """Register a function `name(context, *, option=...) -> Scorer` as the scorer of its name.

    `context` is a `ScorerContext`. The keyword arguments are the options of `scorer.options`, checked against their
    annotations. A function that is not registered is named by "pkg.module:function" in a config.

    Args:
        asks_model: It may use a model, which `scorer.model` names.
        needs_model: It cannot work without one.

    Returns:
        The decorator, which returns the function as it is.
    """

    def decorate(function: Function) -> Function:
        found = _described(function.__name__, function)
        SCORERS.add(replace(found, asks_model=asks_model or needs_model, needs_model=needs_model))
        return function

    return decorate


def check_scorer(name: str, options: Mapping[str, Any], *, model: str | None) -> None:
    """Check the name, options and model of a scorer.

    Raises:
        UserError: The scorer does not exist, has no such option, or needs a model and has none.
    """
    plugin = SCORERS.get(name)
    for fault in option_faults(options, plugin.options, owner=f"scorer {name!r}", annotations=plugin.annotations):
        raise UserError(fault)
    if plugin.needs_model and model is None:
        raise UserError(f"scorer {name} needs a model: a folder or a hub name")


def open_scorer(name: str, *, model: str | None, options: Mapping[str, Any], context: ScorerContext) -> Scorer:
    """Open a scorer.

    Args:
        name: Its name.
        model: The model that scores, a folder or a hub name; None: that of the context, the policy.
        options: Its options, as `check_scorer` has checked them.
        context: What it may need of the run.

    Raises:
        UserError: It cannot be opened with these options, or the model cannot be used.
    """
    from star_rft import models

    if model is not None and SCORERS.get(name).asks_model and "url" not in options:
        found = models.resolve(context.model.at(model), into=context.into)
        context = replace(context, model=context.model.at(found))
    opened: Scorer = SCORERS.get(name).function(context, **options)
    return opened


def scored(
    con: duckdb.DuckDBPyConnection,
    scorer: Scorer,
    scoring: ScorerSettings,
    *,
    round_index: int,
    split: Split,
    problems: Mapping[str, Problem],
    advance: Advance,
) -> Iterator[tuple[str, float | None, str]]:
    """Yield (sample id, score, status) of the traces of one split and round, problem by problem.

    `advance` is called with how many more are scored, chunk by chunk.
    """
    for traces in _chunks(traces_of(con, problems, split=split, round_index=round_index)):
        for trace, score in zip(traces, scorer.score(traces), strict=True):
            yield trace.sample.id, score, scoring.status(score)
        advance(len(traces), 0)


def _chunks(traces: Iterator[Trace]) -> Iterator[list[Trace]]:
    """Yield `CHUNK` traces or more at a time, all traces of a problem together."""
    chunk: list[Trace] = []
    for trace in traces:
        if len(chunk) >= CHUNK and trace.problem.id != chunk[-1].problem.id:
            yield chunk
            chunk = []
        chunk.append(trace)
    if chunk:
        yield chunk
