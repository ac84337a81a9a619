"""Problems from files, hub data sets, iterables and generators; prompts; the contamination check.

The library `datasets` is imported when a hub name is loaded, and torch and transformers are not imported.
"""

from __future__ import annotations

from star_rft.data.contamination import (
    ContaminationError,
    ContaminationReport,
    Overlap,
    overlaps,
    require_clean,
)
from star_rft.data.load import load
from star_rft.data.presets import PRESETS, detect
from star_rft.data.problems import check_references, read_problems, write_problems
from star_rft.data.prompts import Prompter
from star_rft.data.readers import DataError

__all__ = [
    "PRESETS",
    "ContaminationError",
    "ContaminationReport",
    "DataError",
    "Overlap",
    "Prompter",
    "check_references",
    "detect",
    "load",
    "overlaps",
    "read_problems",
    "require_clean",
    "write_problems",
]
