"""Which parameters of a test `make test` runs; the others are left to `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def fast_only(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Return the parameters of a test, all but `fast` with the mark `full`."""
    found = list(values)
    if unknown := [value for value in fast if value not in found]:
        raise ValueError(f"no parameters of this test: {unknown}")
    return [value if value in fast else pytest.param(value, marks=pytest.mark.full) for value in found]
