"""The trainings of a round: supervised, then by preference; or a verifier model besides."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from star_rft.errors import RunFailure
from star_rft.models.spec import ModelSpec
from star_rft.progress import OnStep
from star_rft.runs.folder import float32_of
from star_rft.training.options import Say, TrainingOptions
from star_rft.types import Example, Model, Preference

# fit(items, options, model=..., out_dir=..., work_dir=..., on_step=..., say=...) writes a checkpoint, whole or not at
# all: `sft.fit`, or `preference.fit_preferences` with its objective, in this process or in launched ones.
Fit = Callable[..., object]


@dataclass(frozen=True, slots=True)
class SupervisedTraining:
    """The supervised training of each round.

    `start` is a key of the models that a round may start from; `max_steps` of the options, which are those of round 1,
    grows by `step_growth`.
    """

    fit: Fit
    options: TrainingOptions
    start: str
    step_growth: float = 1.0
    continues_optimizer: bool = False

    def options_of(self, round_index: int, last: Model | None) -> TrainingOptions:
        """Return the options of a round; `last` is the model of the round before it, None where there is none."""
        options = self.options
        if options.max_steps is not None:
            options = replace(options, max_steps=growing(options.max_steps, self.step_growth, round_index))
        if self.continues_optimizer:
            moments = None if last is None else Path(last)
            options = replace(options, save_optimizer=True, optimizer_from=moments)
        return options


@dataclass(frozen=True, slots=True)
class PreferenceTraining:
    """The preference training of each round; `start` is a key of the models that a round may start from."""

    fit: Fit
    options: TrainingOptions
    start: str
    makes_verifier: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Where a round of a run leaves its models; `supervised` is an intermediate one, if preferences follow.

    `has_next`: a later round may go on from the policy.
    """

    run: Path
    policy: Path
    supervised: Path
    verifier: Path
    has_next: bool = False


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training on examples or preferences, from the model `start` to the folder `out`."""

    fit: Fit
    title: str
    items: Sequence[Any]
    options: TrainingOptions
    start: Model
    out: Path

    def run(self, *, model: ModelSpec, seed: int, work_dir: Path, on_step: OnStep, say: Say | None = None) -> None:
        """Do it; `model` says how models are loaded."""
        options, where = replace(self.options, seed=seed), {"out_dir": self.out, "work_dir": work_dir}
        self.fit(self.items, options, model=model.at(self.start), on_step=on_step, say=say, **where)


@dataclass(frozen=True, slots=True)
class RoundTraining:
    """The trainings that a round may have."""

    supervised: SupervisedTraining | None
    preference: PreferenceTraining | None

    def jobs(
        self,
        round_index: int,
        *,
        starts: Mapping[str, Model],
        places: Places,
        examples: Callable[[], Sequence[Example]],
        preferences: Callable[[], Sequence[Preference]],
    ) -> Iterator[TrainingJob]:
        """Yield the trainings that are missing, each to be done before the next is asked for.

        `starts` are the base, the warm start and the last policy. The verifier comes first and the policy last: with it
        the round's training is finished. A model that is trained on is kept in float32 as well, until then.
        """
        preference, supervised = self.preference, self.supervised
        if preference is not None and preference.makes_verifier and not places.verifier.exists():
            pairs = _required(preferences(), places, round_index, "no trace was set against another")
            start = starts[preference.start]
            options = _from_float32(preference.options, start)
            yield TrainingJob(preference.fit, "training the verifier", pairs, options, start, places.verifier)
        prefers_policy = preference is not None and not preference.makes_verifier
        trained = starts["last"]
        if supervised is not None:
            trained = places.supervised if prefers_policy else places.policy
            if not trained.exists():
                chosen = _required(examples(), places, round_index, "no sample was verified as correct and selected")
                # After a roll-back to where the loop began there are no moments to go on with, as in round 1.
                is_start = starts["last"] in (starts["base"], starts["warm_start"])
                options = supervised.options_of(round_index, None if is_start else starts["last"])
                start = starts[supervised.start]
                options = self._with_copy(_from_float32(options, start), trained, places)
                yield TrainingJob(supervised.fit, "training", chosen, options, start, trained)
        if preference is not None and prefers_policy:
            pairs = _required(preferences(), places, round_index, "no trace was set against another")
            start = {**starts, "trained": trained}[preference.start]
            options = self._with_copy(_from_float32(preference.options, start), places.policy, places)
            yield TrainingJob(preference.fit, "preference training", pairs, options, start, places.policy)
            shutil.rmtree(float32_of(places.supervised), ignore_errors=True)

    @property
    def goes_on(self) -> bool:
        """Whether a round may start from the model of an earlier one."""
        return any(part is not None and part.start == "last" for part in (self.supervised, self.preference))

    def _with_copy(self, options: TrainingOptions, out: Path, places: Places) -> TrainingOptions:
        """Keep the float32 weights of a model, where a training starts from it."""
        is_between = out == places.supervised and self.preference is not None and self.preference.start == "trained"
        is_last = out == places.policy and places.has_next and self.goes_on
        return replace(options, float32_dir=float32_of(out)) if is_between or is_last else options


def _from_float32(options: TrainingOptions, start: Model) -> TrainingOptions:
    """Start a training from a model's float32 weights, where they are kept."""
    found = float32_of(start)
    return replace(options, weights_from=found) if found.is_dir() else options


def growing(steps: int, growth: float, round_index: int) -> int:
    """Return the steps of a round that trains `growth` times as long as the one before (STaR: 40, then 1.2x)."""
    return int(steps * growth ** (round_index - 1))


def _required(items: Sequence[Any], places: Places, round_index: int, what: str) -> Sequence[Any]:
    if not items:
        raise RunFailure(
            f"round {round_index}: nothing to train on: {what}. Look with"
            f' `star-rft sql {places.run} "select why, count(*) from selection group by all"` and'
            f' `star-rft sql {places.run} "select reason, answer, text from traces limit 20"`;'
            " then raise sample.n, begin with a warm_start, or use easier problems"
        )
    return items
