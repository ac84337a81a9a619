"""Typed configs of runs: YAML with `key.sub=value` overrides, checked when they are read.

Only the layers from `build` on know these classes. Whatever can be refused without data, a model or a plug-in is
refused here, with the key, the value and what is valid.
"""

from star_rft.config.data import SourceConfig
from star_rft.config.load import ConfigError, changes, dump, load, pairs
from star_rft.config.run import Config
from star_rft.config.sampling import DecodingConfig, SampleConfig
from star_rft.config.training import FitConfig

__all__ = [
    "Config",
    "ConfigError",
    "DecodingConfig",
    "FitConfig",
    "SampleConfig",
    "SourceConfig",
    "changes",
    "dump",
    "load",
    "pairs",
]
