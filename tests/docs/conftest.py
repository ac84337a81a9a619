"""A small run under the name that the documentation uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.reader import SMALL
from tests.docs.shell import run
from tests.once import made_once


@pytest.fixture(scope="session")
def small_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/quickstart as a reader has it after the quickstart, with fewer problems and rounds. Not to be changed."""

    def make(folder: Path) -> None:
        done = run(f"star-rft run quickstart {SMALL}", folder)
        assert done.status == 0, done.err

    return made_once(tmp_path_factory, "reader", make) / "runs" / "quickstart"


@pytest.fixture
def folder(small_quickstart: Path, tmp_path: Path) -> Path:
    """A reader's folder, with a quickstart that has been run."""
    shutil.copytree(small_quickstart, tmp_path / "runs" / "quickstart")
    return tmp_path
