"""Viewers that answer, and the browser, for the tests that read pages and those that show them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import chromium
from tests.viewer.looked import HOSTILE, viewed, write_hostile_run, write_run

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer of the small run."""
    folder = tmp_path_factory.mktemp("looked")
    write_run(folder / "run")
    with viewed(folder / "run", folder / "scratch", own=range(4)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer of a run whose every text and name is hostile, as its own name is."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile_run(folder / "run")
    with viewed(folder / "run", folder / "scratch", name=HOSTILE) as (url, _):
        yield url
