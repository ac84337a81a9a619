"""Trainings by flat keyword arguments, so that a test can change any one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from star_rft.models import ModelSpec
from star_rft.training import preference, sft
from star_rft.training.distributed import launch
from star_rft.training.options import FitReport, TrainingOptions
from star_rft.training.registry import ObjectiveSpec
from star_rft.types import Example, Preference

OPTIONS = [field.name for field in fields(TrainingOptions)]


def fit(examples: Sequence[Example], **values: Any) -> FitReport:
    """Train on examples on the CPU; see `sft.fit`."""
    return _call(sft.fit, examples, values)


def fit_preferences(preferences: Sequence[Preference], **values: Any) -> FitReport:
    """Train on preferences on the CPU; see `preference.fit_preferences`."""
    reference: Path | None = values.pop("reference_path", None)
    if reference is not None:
        values["reference"] = ModelSpec(reference, device="cpu")
    return _call(preference.fit_preferences, preferences, values)


def fit_launched(items: Sequence[Any], **values: Any) -> FitReport:
    """Train in launched processes on the CPU; see `launch.fit_launched`."""
    return _call(launch.fit_launched, items, values)


def _call(train: Callable[..., FitReport], items: Sequence[Any], values: dict[str, Any]) -> FitReport:
    options = TrainingOptions(**{"lr": 1e-3, **{name: values.pop(name) for name in OPTIONS if name in values}})
    model = ModelSpec(values.pop("model_path"), device=values.pop("device", "cpu"))
    if (objective := values.pop("objective", None)) is not None:
        about = {name: values.pop(name) for name in ("beta", "sft_weight") if name in values}
        values["objective"] = ObjectiveSpec.of(objective, **{"sft_weight": 0.0, **about})
    return train(items, options, model=model, **values)
