"""Objectives over TRL. Importing this loads no torch."""

from star_rft.errors import TrainingError
from star_rft.training.examples import example_from_text, example_from_tokens
from star_rft.training.preference import fit_rankings
from star_rft.training.settings import FitReport, LoraSpec
from star_rft.training.sft import fit

__all__ = ["FitReport", "LoraSpec", "TrainingError", "example_from_text", "example_from_tokens", "fit", "fit_rankings"]
