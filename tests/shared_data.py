"""Real data sets, which some tests read and the product never needs: the folder that STAR_RFT_SHARED names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(name: str) -> Path:
    """Return a file or folder of the real data, such as "gsm8k/test.jsonl"; skip the test without it."""
    root = os.environ.get("STAR_RFT_SHARED")
    if root is None:
        pytest.skip(f"needs real data, data/{name}: set STAR_RFT_SHARED to the folder that holds it")
    path = Path(root) / "data" / name
    if not path.exists():
        pytest.skip(f"needs real data: there is no {path}")
    return path
