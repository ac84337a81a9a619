"""Where the sample cases lie, and checks in a module that worker processes can import."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("STAR_RFT_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no sample data: set STAR_RFT_SHARED or put it at {default}")
    return folder


@pytest.fixture(scope="session")
def math_cases(shared: Path) -> list[dict[str, Any]]:
    lines = (shared / "verifier" / "math_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
