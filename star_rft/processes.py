"""Child processes that do not outlive the process that started them, and the end of a log for error messages.

The processes of an engine are one process group, which is killed as a whole. The processes of a training are tied to
two locks on files of a folder: they share a lock on `ranks` as long as they run, and kill themselves when nobody holds
the lock on `leash` any more, however the process that held it ended.
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

GONE_WITHIN = 20.0  # seconds after SIGKILL; only a process that hangs in a driver takes longer
WATCH_SECONDS = 0.5  # between two looks at the lock
LOG_LINES = 20  # of a log that an error quotes
ERROR_CHARACTERS = 300  # of a quoted error

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that this process gets when its parent dies
# What vLLM writes before a message: `(Worker pid=31531) ERROR 11-22 03:27:28 [file.py:953] `.
_PREFIX = re.compile(r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]*\] ?)?")
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)(?:: .*)?$")
# Errors that only say that another process has failed.
_CONSEQUENCE = re.compile(r"EngineDeadError|initialization failed|Failed core proc")


def members(group: int) -> list[int]:
    """Return the ids of the processes of a group that still run, without zombies, which hold no memory."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_groups(groups: Sequence[int]) -> None:
    """Kill every process of the groups and wait until none is left; RunFailure if one is left after `GONE_WITHIN`."""
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


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold the lock that processes tied to this folder watch: when the block ends, they kill themselves in a second."""
    with (folder / "leash").open("w") as leash:
        fcntl.flock(leash, fcntl.LOCK_EX)
        yield


def tie(folder: Path) -> None:
    """Have this process killed when its parent dies (Linux), or when nobody is in `holding` of the folder any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ranks, leash = ((folder / name).open() for name in ("ranks", "leash"))
    fcntl.flock(ranks, fcntl.LOCK_SH)

    def watch() -> None:
        while ranks and _is_held(leash.fileno()):  # this reference keeps `ranks` open, and so locked
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=watch, name="leash", daemon=True).start()


def wait_for_ranks(folder: Path, *, seconds: float) -> bool:
    """Wait up to `seconds` for the processes tied to this folder to end, and return whether all have."""
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


def log_tail(log: Path) -> str:
    """Return the end of an error message: the error that a log names, and its last `LOG_LINES` lines."""
    text = log.read_bytes().replace(b"\0", b"").decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return f"its log {log} is empty"
    error = cause(lines)
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    return f"{f'its last error was {error}; ' if error else ''}its log is {log} and ends with\n{tail}"


def cause(lines: Sequence[str]) -> str | None:
    """Return the last error of a log that is no consequence of another; None without one.

    An error without a text is followed by the line of the traceback that raised it.
    """
    said = [_PREFIX.sub("", line) for line in lines]
    for at in reversed(range(len(said))):
        if _ERROR.match(said[at]) and not _CONSEQUENCE.search(said[at]):
            if ":" in said[at]:
                return said[at][:ERROR_CHARACTERS]
            before = next((line.strip() for line in reversed(said[:at]) if line.strip(" ^~")), "")
            return f"{said[at]} at `{before}`"[:ERROR_CHARACTERS]
    return None
