"""The registry of preference objectives: losses of pairs of completions, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from star_rft.errors import TrainingError
from verifiers.plugins import Registry, describer, option_faults

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class CompletionPairs:
    """P pairs of completions of one prompt, as tensors of shape (P).

    Attributes:
        better: Log-probability of the better completion by the policy, log pi(y|x) in nats. Gradients flow through it.
        worse: The same of the worse one.
        better_reference: Log-probability of the better completion by the reference model; 0 without one.
        worse_reference: The same of the worse one.
        better_tokens: Number of tokens of the better completion, its end token included.
        worse_tokens: The same of the worse one.
    """

    better: torch.Tensor
    worse: torch.Tensor
    better_reference: torch.Tensor
    worse_reference: torch.Tensor
    better_tokens: torch.Tensor
    worse_tokens: torch.Tensor


@dataclass(frozen=True, slots=True)
class PairObjective:
    """A preference objective: `function(pairs, *, option=...)` returns the loss of each pair (P).

    Attributes:
        name: By which a config names it.
        function: Takes `CompletionPairs`.
        options: Its keyword arguments with their defaults.
        annotations: Their types.
        needs_reference: Whether a reference model scores the completions before the training.
        averages: What the sum of a step's losses is divided by: its "pairs" or its "preferences".
        imitates: What `sft_weight` adds the negative log-likelihood of: every "better" completion of a pair, as often
            as it is one, per token; or the "first" completion of each preference, as a mean over its tokens.
    """

    name: str
    function: Callable[..., torch.Tensor]
    options: Mapping[str, Any]
    annotations: Mapping[str, Any]
    needs_reference: bool = True
    averages: Literal["pairs", "preferences"] = "pairs"
    imitates: Literal["better", "first"] = "better"

    def __post_init__(self) -> None:
        for name, valid in (("averages", ("pairs", "preferences")), ("imitates", ("better", "first"))):
            if (given := getattr(self, name)) not in valid:
                raise TrainingError(f"objective {self.name!r}: {name} is {given!r}; valid: {', '.join(valid)}")


_described = describer(PairObjective, kind="objective", takes="pairs", error=TrainingError)
OBJECTIVES: Registry[PairObjective] = Registry(
    "objective",
    group="star_rft.objectives",
    home="star_rft.training.objectives",
    describe=_described,
    error=TrainingError,
    unknown=TrainingError,
)
Function = TypeVar("Function", bound="Callable[..., torch.Tensor]")


@overload
def objective(function: Function, /) -> Function: ...
@overload
def objective(
    *,
    needs_reference: bool = True,
    averages: Literal["pairs", "preferences"] = "pairs",
    imitates: Literal["better", "first"] = "better",
) -> Callable[[Function], Function]: ...
def objective(
    function: Any = None,
    /,
    *,
    needs_reference: bool = True,
    averages: Literal["pairs", "preferences"] = "pairs",
    imitates: Literal["better", "first"] = "better",
) -> Any:
    """Register `name(pairs, *, option=...)` as the preference objective of that name.

    `pairs` is a `CompletionPairs`, and the function returns the loss of each pair, a tensor of shape (P). Keyword
    arguments are the options that a config may give in `preference.objective: {name: {option: value}}`. What the
    decorator takes is described at `PairObjective`. Without the decorator a config names an objective by
    "pkg.module:function".
    """

    def decorate(function: Function) -> Function:
        found = _described(function.__name__, function)
        OBJECTIVES.add(replace(found, needs_reference=needs_reference, averages=averages, imitates=imitates))
        return function

    return decorate if function is None else decorate(function)


@dataclass(frozen=True, slots=True)
class ObjectiveSpec:
    """Which objective a preference training has.

    Attributes:
        name: A registered objective, or "pkg.module:function".
        options: Its options.
        sft_weight: Weight of the negative log-likelihood that is added to the loss (see `PairObjective.imitates`).
    """

    name: str = "dpo"
    options: Mapping[str, Any] = field(default_factory=dict)
    sft_weight: float = 0.0

    @classmethod
    def of(cls, given: str | Mapping[str, Mapping[str, Any]], *, sft_weight: float, **shared: Any) -> ObjectiveSpec:
        """Return the objective of a config: a name, or a mapping of one name to options.

        `shared` are options that are written elsewhere. Raises TrainingError for an objective that does not exist, and
        for options that it does not have or that are given twice.
        """
        ((name, options),) = ({given: {}} if isinstance(given, str) else given).items()
        if twice := sorted(shared.keys() & options.keys()):
            raise TrainingError(f"option {twice[0]!r} of objective {name!r} is given twice")
        spec = cls(name, {**shared, **options}, sft_weight)
        spec.check()
        return spec

    def check(self) -> None:
        """Raise TrainingError for an objective that does not exist, and for options that it does not have."""
        plugin, owner = self.plugin(), f"objective {self.name!r}"
        for fault in option_faults(self.options, plugin.options, owner=owner, annotations=plugin.annotations):
            raise TrainingError(fault)

    def plugin(self) -> PairObjective:
        """Return the registered objective."""
        return OBJECTIVES.get(self.name)

    def content(self) -> list[object]:
        """Return what the fingerprint of a training covers: the same for defaults that are written out, 1 and 1.0."""
        options = {**self.plugin().options, **self.options}
        numbers = {name: float(value) for name, value in options.items() if type(value) is int}
        return [self.name, options | numbers, float(self.sft_weight)]
