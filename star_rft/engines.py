"""From a config to the engine that draws completions, and to its name and version in the ledger."""

from __future__ import annotations

from importlib.metadata import version

from star_rft.config import Config
from star_rft.types import Model, Sampler


def backend(config: Config) -> tuple[str, str]:
    """Return what every decoding of the run names: the engine that draws, and its version."""
    name = engine_name(config)
    return name, version("transformers")


def engine_name(config: Config) -> str:
    """Return which engine draws: a cluster is none, but runs one on its nodes."""
    return config.ray.engine if config.sample.backend == "ray" else config.sample.backend


def open_sampler(config: Config, model: Model) -> Sampler:
    """Load a model into the engine of the config. Heavy: the engine's libraries are imported here."""
    from star_rft.samplers.hf import HFSampler

    return HFSampler(
        model,
        dtype=config.model.dtype,
        device=config.model.device,
        batch_size=config.sample.batch_size,
        trust_remote_code=config.model.trust_remote_code,
    )
