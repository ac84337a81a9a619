"""What several test files share."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Milliseconds for a drawn example. With the default, 200, an example failed now and then beside another busy test.
settings.register_profile("shared machine", deadline=5000)
settings.load_profile("shared machine")

# One thread a worker, before anything imports torch: such small products take longest in waiting for a second thread,
# and equal runs need an equal count. The hub is not asked, here or in what a test starts.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

# A shell has what it runs in the background ignore Ctrl-C, and so what that starts; the tests of Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put last what needs the finished run: it lies with one worker then, and no other waits while it is made."""
    items.sort(key=lambda item: "finished" in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Take what is imported by now out of the sight of the garbage collector.

    transformers and accelerate collect garbage in every training, and looking through all of torch and of the tests
    took them longer than training such small models.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give it back, so that the interpreter ends as ever: DuckDB complains of what is still there then."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two rounds, from the command line. Not to be changed: all workers read it."""
    from tests.once import made_once
    from tests.small_runs import call, write_config

    def make(folder: Path) -> None:
        done = call("run", str(write_config(folder)), "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert [report["round"] for report in json.loads(done.stdout)] == [0, 1, 2]

    return made_once(tmp_path_factory, "undisturbed", make) / "run"
