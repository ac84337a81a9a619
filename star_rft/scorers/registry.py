"""The registry of scorers, and the scores of a round's traces by one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from star_rft.data import Prompter
from star_rft.errors import UserError
from star_rft.ledger.traces import trace_of
from star_rft.models.spec import ModelSpec
from star_rft.progress import Advance
from star_rft.training.dataset import SampleOrigin
from star_rft.types import Model, Problem, Sampler, Scorer, Split, Trace
from verifiers.plugins import Registry, keyword_options, option_faults

if TYPE_CHECKING:
    import duckdb

# Traces that are in memory at once, rounded up to whole problems.
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a run scores. `make(policy)` opens the scorer; a score from `threshold` on counts as correct."""

    name: str
    make: Callable[[Model], Scorer]
    threshold: float | None
    decides: bool
    frees_policy: bool = True  # the scorer is a model of its own, and one at a time is in memory

    def status(self, score: float | None) -> str:
        if score is None:
            return "unknown"
        return "correct" if self.threshold is None or score >= self.threshold else "incorrect"


@dataclass(frozen=True, slots=True)
class ScorerContext:
    """What a scorer may need of a run. `model` is what scores: the policy, unless the config names another model.

    `sampler(model)` draws from a model, `fingerprint(model)` is its id, `prompter` renders problems as they were
    sampled and `origin` says how; `into` is where a model is converted to.
    """

    model: Model
    sampler: Callable[[Model], Sampler]
    fingerprint: Callable[[Model], str]
    prompter: Prompter
    origin: SampleOrigin
    into: Path
    seed: int
    trust_remote_code: bool = False

    @property
    def spec(self) -> ModelSpec:
        """The model that scores, with whether its own code may run."""
        return ModelSpec(self.model, trust_remote_code=self.trust_remote_code)


@dataclass(frozen=True, slots=True)
class ScorerPlugin:
    """A scorer by name: `function(context, *, option=...)` opens it.

    `asks_model`: it may run a model, which `scorer.model` names; `needs_model`: it is nothing without.
    """

    name: str
    function: Callable[..., Scorer]
    options: Mapping[str, Any]
    annotations: Mapping[str, Any]
    asks_model: bool = False
    needs_model: bool = False


def _described(name: str, function: Callable[..., Scorer]) -> ScorerPlugin:
    options, annotations = keyword_options(name, function, kind="scorer", takes="context", error=UserError)
    return ScorerPlugin(name, function, options, annotations)


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
    """Register `name(context, *, option=...) -> Scorer` as the scorer of that name.

    `context` is a `ScorerContext`. Keyword arguments are the options that a config may give in `scorer.options`, with
    the types of their annotations. Without the decorator a config names a scorer by "pkg.module:function".
    """

    def decorate(function: Function) -> Function:
        found = _described(function.__name__, function)
        SCORERS.add(replace(found, asks_model=asks_model or needs_model, needs_model=needs_model))
        return function

    return decorate


def check_scorer(name: str, options: Mapping[str, Any], *, model: str | None) -> None:
    """Raise UserError for a scorer that does not exist, options that it does not have, or a model that it lacks."""
    plugin = SCORERS.get(name)
    for fault in option_faults(options, plugin.options, owner=f"scorer {name!r}", annotations=plugin.annotations):
        raise UserError(fault)
    if plugin.needs_model and model is None:
        raise UserError(f"scorer {name} needs a model: a folder or a hub name")


def open_scorer(name: str, *, model: str | None, options: Mapping[str, Any], context: ScorerContext) -> Scorer:
    """Return a scorer whose options are checked; `model` is what scores, by default the policy. Raises UserError."""
    from star_rft import models

    if model is not None and SCORERS.get(name).asks_model and "url" not in options:
        found = models.resolve(context.spec.at(model), into=context.into)
        context = replace(context, model=found)
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
    """Yield (sample id, score, status) for the traces of one split and round, problem by problem."""
    for traces in _chunks(con, round_index=round_index, split=split, problems=problems):
        for trace, score in zip(traces, scorer.score(traces), strict=True):
            yield trace.sample.id, score, scoring.status(score)
        advance(len(traces), 0)


def _chunks(
    con: duckdb.DuckDBPyConnection, *, round_index: int, split: Split, problems: Mapping[str, Problem]
) -> Iterator[Sequence[Trace]]:
    rows = con.sql(
        f"select * from traces where split = '{split}' and round = {int(round_index)}"
        " order by problem_id, sample_index, sample_id"
    )
    waiting: list[Trace] = []
    for batch in rows.to_arrow_reader(CHUNK):
        waiting += [trace_of(row, problems[row["problem_id"]]) for row in batch.to_pylist()]
        last = waiting[-1].problem.id
        whole = [trace for trace in waiting if trace.problem.id != last]
        if len(whole) >= CHUNK:
            yield whole
            waiting = waiting[len(whole) :]
    if waiting:
        yield waiting
