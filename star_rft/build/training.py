"""Builds trainings from a config: supervised or by preference, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from star_rft.config import Config, FitConfig
from star_rft.errors import TrainingError, located
from star_rft.stages.training import WarmStart
from star_rft.training.distributed.launch import Launch, config_file, fit_launched
from star_rft.training.options import LoraSpec, TrainingOptions
from star_rft.training.registry import OBJECTIVES, ObjectiveSpec
from star_rft.training.schedule import Fit, PreferenceTraining, RoundTraining, SupervisedTraining
from star_rft.types import Problem


def round_training_of(config: Config) -> RoundTraining:
    """Return the trainings of each round."""
    return RoundTraining(_supervised(config), _preference(config))


def warm_start_of(config: Config, problems: Sequence[Problem]) -> WarmStart | None:
    """Return the training before the first round, on solved problems."""
    section = config.warm_start
    return None if section is None else WarmStart(_fit(config), options_of(section), problems)


def _supervised(config: Config) -> SupervisedTraining | None:
    section = config.train
    if section is None:
        return None
    return SupervisedTraining(
        _fit(config),
        options_of(section),
        start=section.start,
        step_growth=section.step_growth,
        continues_optimizer=section.optimizer == "continue",
    )


def _preference(config: Config) -> PreferenceTraining | None:
    section = config.preference
    if section is None:
        return None
    fit = _fit(config, objective_of(config))
    return PreferenceTraining(fit, options_of(section), section.start, makes_verifier=section.makes == "verifier")


def objective_of(config: Config) -> ObjectiveSpec:
    """Return the objective of a config's preference training. Raises TrainingError for one that does not exist."""
    section = config.preference
    assert section is not None
    shared = {} if section.beta is None else {"beta": section.beta}
    with located("preference.objective"):
        spec = ObjectiveSpec.of(section.objective, sft_weight=section.sft_weight, **shared)
        if _is_launched(config) and not OBJECTIVES.is_importable(spec.name):
            raise TrainingError(
                f"{spec.name!r} is registered in this process only: launched processes import 'pkg.module:function'"
            )
    return spec


def _is_launched(config: Config) -> bool:
    return config.launch.processes > 1 or config.launch.config is not None


def _fit(config: Config, objective: ObjectiveSpec | None = None) -> Fit:
    """Return what does a training: in this process, or in processes that are launched for it."""
    section = config.launch
    if _is_launched(config):
        launch = Launch(
            processes=section.processes,
            config=config_file(section.config or "fsdp2"),
            arguments=section.arguments,
            command=section.command,
            stall=section.stall,
        )
        return partial(fit_launched, launch=launch, objective=objective)
    from star_rft.training.preference import fit_preferences
    from star_rft.training.sft import fit

    return fit if objective is None else partial(fit_preferences, objective=objective)


def options_of(section: FitConfig) -> TrainingOptions:
    """Return the training options of a section of a config."""
    shared = {name: getattr(section, name) for name in FitConfig.model_fields if name != "lora"}
    return TrainingOptions(**shared, lora=lora_of(section))


def lora_of(section: FitConfig) -> LoraSpec | None:
    """Return the adapters to train; None where all weights are trained."""
    if section.lora is None:
        return None
    targets = section.lora.target_modules
    return LoraSpec(
        r=section.lora.r,
        alpha=section.lora.alpha,
        dropout=section.lora.dropout,
        target_modules=targets if isinstance(targets, str) else tuple(targets),
    )
