"""The models of a config: which they are, and how they are loaded."""

from __future__ import annotations

from star_rft.config import Config
from star_rft.models.spec import ModelSpec
from star_rft.runs.folder import RunFolder
from star_rft.types import Model


def spec_of(config: Config, path: Model | None = None) -> ModelSpec:
    """Return the model that the config names, or another one, with how it is loaded."""
    section = config.model
    return ModelSpec(section.name if path is None else path, section.dtype, section.device, section.trust_remote_code)


def named_model_of(config: Config, folder: RunFolder) -> Model:
    """Return the model that the config names as a folder or a name on the hub: converted or merged where it must be."""
    from star_rft import models

    return models.resolve(spec_of(config), gguf_file=config.model.gguf_file, into=folder.base_model)


def base_model_of(config: Config, folder: RunFolder) -> Model:
    """Return the model that the run starts from: the named one, or one of its architecture with random weights."""
    from star_rft import models

    named = named_model_of(config, folder)
    if not config.model.from_scratch:
        return named
    return models.initialise(spec_of(config, named), into=folder.scratch_model, seed=config.seed)
