"""Real cases, and checks in a module that worker processes can import."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.shared_data import shared


@pytest.fixture(scope="session")
def math_cases() -> list[dict[str, Any]]:
    lines = shared("verifier/math_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
