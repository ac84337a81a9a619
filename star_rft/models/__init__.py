"""Finds models, loads or refuses them, and names them by their content."""

from star_rft.models.check import check_model
from star_rft.models.classes import auto_class, read_config
from star_rft.models.errors import ModelError, first_line
from star_rft.models.limits import Longest, longest_sequence, stated_length, text_config
from star_rft.models.load import (
    DTYPES,
    device_of,
    initialise,
    load,
    load_tokenizer,
    without_bars,
)
from star_rft.models.resolve import ASSETS, CHATML, SMOLLM2_INSTALL, SOURCE_FILE, fingerprint, folder_of, resolve
from star_rft.models.spec import AnyModel, ModelSpec

__all__ = [
    "ASSETS",
    "CHATML",
    "DTYPES",
    "SMOLLM2_INSTALL",
    "SOURCE_FILE",
    "AnyModel",
    "Longest",
    "ModelError",
    "ModelSpec",
    "auto_class",
    "check_model",
    "device_of",
    "fingerprint",
    "first_line",
    "folder_of",
    "initialise",
    "load",
    "load_tokenizer",
    "longest_sequence",
    "read_config",
    "resolve",
    "stated_length",
    "text_config",
    "without_bars",
]
