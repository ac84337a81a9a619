"""What several test files share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import call, write_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two rounds, from the command line."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = call("run", str(write_config(folder)), "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert [report["round"] for report in reports] == [0, 1, 2]
    return folder / "run"
