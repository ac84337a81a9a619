"""Builds trainings from a config: supervised or by preference, in this process or in several."""

from __future__ import annotations

from functools import partial
from typing import Any

from star_rft.config import Config, FitConfig
from star_rft.training.distributed.launch import Launch, config_file, fit_launched
from star_rft.training.options import LoraSpec
from star_rft.training.schedule import Fit, PreferenceTraining, SupervisedTraining


def supervised_of(config: Config) -> SupervisedTraining | None:
    """Return the supervised training of a round; None for `train: null`."""
    section = config.train
    if section is None:
        return None
    return SupervisedTraining(
        fit=fit_of(config, section),
        start=section.start,
        max_steps=section.max_steps,
        step_growth=section.step_growth,
        continues_optimizer=section.optimizer == "continue",
    )


def preference_of(config: Config) -> PreferenceTraining | None:
    """Return the preference training of a round; None where the config has none."""
    section = config.preference
    if section is None:
        return None
    from star_rft.training.preference import fit_preferences

    fit = partial(
        _where(config, fit_preferences),
        objective=section.objective,
        beta=section.beta,
        sft_weight=section.sft_weight,
        **_fit_options(config, section),
    )
    return PreferenceTraining(fit, section.start, makes_verifier=section.makes == "verifier")


def fit_of(config: Config, section: FitConfig) -> Fit:
    """Return the function that does a supervised training, with the options of a section such as `train`."""
    from star_rft.training.sft import fit

    return partial(_where(config, fit), **_fit_options(config, section))


def _where(config: Config, fit: Fit) -> Fit:
    """Return a training function that runs `fit` in this process, or in launched processes if the config says so."""
    section = config.launch
    if section.processes == 1 and section.config is None:
        return fit
    launch = Launch(
        processes=section.processes,
        config=config_file(section.config or "fsdp2"),
        arguments=section.arguments,
        command=section.command,
        stall=section.stall,
    )
    return partial(fit_launched, launch=launch)


def _fit_options(config: Config, section: FitConfig) -> dict[str, Any]:
    shared = {name: getattr(section, name) for name in FitConfig.model_fields if name != "lora"}
    where = {"device": config.model.device, "trust_remote_code": config.model.trust_remote_code}
    return {**shared, **where, "lora": lora_of(section)}


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
