"""`star-rft view` as a process: what it prints, how it ends, what it leaves behind."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from star_rft.errors import UserError
from star_rft.viewer import server
from star_rft.viewer.server import listen
from tests.small_runs import call, command, environment
from tests.viewer.looked import files_of


@contextmanager
def viewer(run: Path, *arguments: str, temporary: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the command and wait for the address that it prints."""
    settings = environment() | {"TMPDIR": str(temporary)}
    process = subprocess.Popen(
        command("view", str(run), "--no-open", *arguments),
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None, process.communicate(timeout=10)
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


def test_it_prints_its_address_answers_and_ends_cleanly_with_nothing_changed(finished: Path, tmp_path: Path) -> None:
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    shutil.copytree(finished, run)
    temporary.mkdir()
    before = files_of(run)
    with viewer(run, "--port", "0", temporary=temporary) as (address, process):
        page = httpx.get(address)
        assert page.status_code == 200
        assert "26 problems" in page.text
        assert "steps" in page.text
        assert httpx.get(f"{address}?q=sells&by=trace").status_code == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "reading the ledger" in errors
    assert "Traceback" not in errors
    assert files_of(run) == before
    assert list(temporary.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_anything_is_read(finished: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = call("view", str(finished), "--port", str(port), "--no-open", cwd=tmp_path)
    assert done.returncode == 2
    assert f"--port {port}: Address already in use: choose another, or leave it out for any free one" in done.stderr
    assert "reading" not in done.stderr


def test_a_folder_that_is_no_run_is_one_clear_line(tmp_path: Path) -> None:
    done = call("view", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a run folder" in done.stderr


def test_it_listens_on_this_machine_only() -> None:
    with listen(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"


def test_where_the_usual_port_is_taken_any_other_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(0) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(server, "PORT", port)
        with listen(None) as taken:
            assert taken.getsockname()[1] != port
        with pytest.raises(UserError, match=f"--port {port}"):
            listen(port)
    with listen(None) as taken:
        assert taken.getsockname()[1] == port


@pytest.mark.parametrize(
    ("platform", "variables", "is_there"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
    ],
)
def test_a_browser_is_opened_only_where_someone_would_see_it(
    platform: str, variables: dict[str, str], is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert server.has_display() == is_there
