"""The trainings of a round: supervised, then by preference; or a verifier model besides."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_rft.errors import RunFailure
from star_rft.runs.folder import float32_of
from star_rft.types import Example, Model, Preference

# fit(items, model_path=..., out_dir=..., **more) writes a checkpoint, whole or not at all.
Fit = Callable[..., object]


@dataclass(frozen=True, slots=True)
class SupervisedTraining:
    """`start` is a key of the models that a round may start from; `max_steps` of round 1 grows by `step_growth`."""

    fit: Fit
    start: str
    max_steps: int | None
    step_growth: float
    continues_optimizer: bool

    def options(self, round_index: int, last: Model | None) -> dict[str, Any]:
        """Return what changes from round to round; `last` is the round's model that it goes on from, if it is one."""
        options: dict[str, Any] = {}
        if self.max_steps is not None:
            options["max_steps"] = growing(self.max_steps, self.step_growth, round_index)
        if self.continues_optimizer:
            options |= {"save_optimizer": True, "optimizer_from": None if last is None else Path(last)}
        return options


@dataclass(frozen=True, slots=True)
class PreferenceTraining:
    fit: Fit
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
    """One training: `fit` imitates or compares `items`, from the model `start` to the folder `out`."""

    fit: Fit
    title: str
    items: Sequence[Any]
    start: Model
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundTraining:
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
            options = _weights_of(start)
            yield TrainingJob(preference.fit, "training the verifier", pairs, start, places.verifier, options)
        prefers_policy = preference is not None and not preference.makes_verifier
        trained = starts["last"]
        if supervised is not None:
            trained = places.supervised if prefers_policy else places.policy
            if not trained.exists():
                chosen = _required(examples(), places, round_index, "no sample was verified as correct and selected")
                # After a roll-back to where the loop began there are no moments to go on with, as in round 1.
                is_start = starts["last"] in (starts["base"], starts["warm_start"])
                options = supervised.options(round_index, None if is_start else starts["last"])
                start = starts[supervised.start]
                options |= _weights_of(start) | self._copy_of(trained, places)
                yield TrainingJob(supervised.fit, "training", chosen, start, trained, options)
        if preference is not None and prefers_policy:
            pairs = _required(preferences(), places, round_index, "no trace was set against another")
            start = {**starts, "trained": trained}[preference.start]
            options = _weights_of(start) | self._copy_of(places.policy, places)
            yield TrainingJob(preference.fit, "preference training", pairs, start, places.policy, options)
            shutil.rmtree(float32_of(places.supervised), ignore_errors=True)

    @property
    def goes_on(self) -> bool:
        """Whether a round may start from the model of an earlier one."""
        return any(part is not None and part.start == "last" for part in (self.supervised, self.preference))

    def _copy_of(self, out: Path, places: Places) -> dict[str, Any]:
        """Return the option that keeps the float32 weights of a model, where a training starts from it."""
        is_between = out == places.supervised and self.preference is not None and self.preference.start == "trained"
        is_last = out == places.policy and places.has_next and self.goes_on
        return {"float32_dir": float32_of(out)} if is_between or is_last else {}


def _weights_of(start: Model) -> dict[str, Any]:
    """Return the option that starts a training from a model's float32 weights, where they are kept."""
    found = float32_of(start)
    return {"weights_from": found} if found.is_dir() else {}


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
