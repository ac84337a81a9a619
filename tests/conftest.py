"""What several test files share."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.runs import call, write_config

# A shell has what it runs in the background ignore Ctrl-C, and so what that starts; the tests of Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two rounds, from the command line."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = call("run", str(write_config(folder)), "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert [report["round"] for report in reports] == [0, 1, 2]
    return folder / "run"
