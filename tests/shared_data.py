"""Where the real data sets lie that some tests read. The product never needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """Return a file or folder of the shared data, such as "gsm8k/test.jsonl"; skip the test without it."""
    root = Path(os.environ.get("STAR_RFT_SHARED", BESIDE_THE_REPOSITORY))
    path = root / name
    if not path.exists():
        pytest.skip(f"needs the shared data file {name}: set STAR_RFT_SHARED to the folder that holds it")
    return path
