"""Processes that end with the one that started them: process groups, and a lock on a folder.

An engine's processes are one group, which is killed as a whole. The processes of a training hold a lock on a file of
their folder, and end when nobody holds the other lock there, however the process that started them ended.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import psutil

from star_rft.errors import RunFailure

GONE_WITHIN = 20.0  # seconds after SIGKILL; only a process inside a broken driver takes longer


def members(group: int) -> list[int]:
    """Return the processes of a group that still run; a zombie, which nobody has waited for, holds nothing."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_groups(groups: Sequence[int]) -> None:
    """Kill every process of the groups and wait until none is left; RunFailure if one stays."""
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + GONE_WITHIN
    while left := [pid for group in groups for pid in members(group)]:
        if time.monotonic() > deadline:
            raise RunFailure(f"processes {left} of an engine that was closed cannot be killed: what they hold is lost")
        time.sleep(0.05)


LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep alive what is tied to this folder; when the block ends it dies within a second."""
    with (folder / "leash").open("w") as leash:
        fcntl.flock(leash, fcntl.LOCK_EX)
        yield


def tie(folder: Path) -> None:
    """Have this process killed when its parent dies, or when nobody holds the folder any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ranks, leash = ((folder / name).open() for name in ("ranks", "leash"))
    fcntl.flock(ranks, fcntl.LOCK_SH)

    def watch() -> None:
        while ranks and _is_held(leash.fileno()):  # `ranks` stays open, and so locked, as long as this thread
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=watch, name="leash", daemon=True).start()


def wait_for_ranks(folder: Path, *, seconds: float) -> bool:
    """Return whether within so many seconds nobody trains any more in this folder."""
    end = time.monotonic() + seconds
    with (folder / "ranks").open("w") as ranks:
        while True:
            try:
                fcntl.flock(ranks, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
            time.sleep(0.05)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


LINES = 20  # of a log that an error quotes


LONGEST = 300  # characters of a quoted error


# `(Worker pid=31531) ERROR 11-22 03:27:28 [file.py:953] ` before what was said
_PREFIX = re.compile(r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]*\] ?)?")


_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)(?:: .*)?$")


_CONSEQUENCE = re.compile(r"EngineDeadError|initialization failed|Failed core proc")


def log_tail(log: Path) -> str:
    """Return the error that the log names and its last lines, for the end of a message."""
    text = log.read_bytes().replace(b"\0", b"").decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return f"its log {log} is empty"
    error = cause(lines)
    tail = "\n".join(f"    {line}" for line in lines[-LINES:])
    return f"{f'its last error was {error}; ' if error else ''}its log is {log} and ends with\n{tail}"


def cause(lines: Sequence[str]) -> str | None:
    """Return the last error that is no consequence of another; with the line that raised it, if it says nothing."""
    said = [_PREFIX.sub("", line) for line in lines]
    for at in reversed(range(len(said))):
        if _ERROR.match(said[at]) and not _CONSEQUENCE.search(said[at]):
            if ":" in said[at]:
                return said[at][:LONGEST]
            before = next((line.strip() for line in reversed(said[:at]) if line.strip(" ^~")), "")
            return f"{said[at]} at `{before}`"[:LONGEST]
    return None
