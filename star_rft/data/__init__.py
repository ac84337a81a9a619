"""Problems: from files, hub data sets, iterables and built-in generators; prompts; the contamination check.

Nothing here imports torch, transformers or datasets until a hub name is loaded.
"""

from __future__ import annotations

from star_rft.data.contamination import (
    ContaminationError,
    ContaminationReport,
    Overlap,
    overlaps,
    require_clean,
)
from star_rft.data.presets import PRESETS, detect
from star_rft.data.problem_file import read_problems, write_problems
from star_rft.data.prompts import Prompter
from star_rft.data.references import check_references
from star_rft.data.rows import DataError
from star_rft.data.sources import load

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
