"""Script that runs a server and ends it with all its children, on request or when star-rft dies.

    python supervisor.py PARENT LOG HIDDEN COMMAND...

It is a process of its own, because the one that samples may be killed with SIGKILL at any moment. It leads a session,
adopts orphans of its descendants, and writes their output to LOG without the value of the environment variable HIDDEN.
It imports nothing of star_rft, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from typing import IO

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
GRACE = 10.0  # seconds that a server has to end by itself
POLL = 0.2


def main(parent: int, log: str, hidden: str, command: list[str]) -> int:
    """Run the command until it ends, a signal comes or the process `parent` has ended; return the server's status."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda taken, _: stopped.append(taken))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    secret = os.environ.get(hidden, "").strip().encode()
    with open(log, "ab", buffering=0) as written:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # safe: there is one thread
        )
        assert server.stdout is not None
        copied = LogCopy(server.stdout, written, secret)
        while not stopped and server.poll() is None and os.getppid() == parent:
            copied.some()
        end_descendants()
        copied.rest()
    return server.wait()


class LogCopy:
    """Copies what the server prints to its log without the secret, in whole lines: no secret is then cut in two."""

    def __init__(self, source: IO[bytes], target: IO[bytes], secret: bytes) -> None:
        self.source, self.target, self.secret = source.fileno(), target, secret
        self.line = b""

    def some(self) -> bool:
        """Copy what there is, after waiting up to POLL seconds for it; return whether there was any."""
        if not select.select([self.source], [], [], POLL)[0]:
            return False
        data = os.read(self.source, 1 << 16)
        if not data:
            time.sleep(POLL)  # closed by a server that runs on
            return False
        *lines, self.line = (self.line + data).splitlines(keepends=True)
        if self.line.endswith((b"\n", b"\r")) or len(self.line) > 1 << 20:
            lines, self.line = [*lines, self.line], b""
        self._write(b"".join(lines))
        return True

    def rest(self) -> None:
        """Copy everything that is left, an unfinished last line too."""
        while self.some():
            pass
        self._write(self.line)

    def _write(self, data: bytes) -> None:
        self.target.write(data.replace(self.secret, b"(key)") if self.secret else data)


def end_descendants() -> None:
    """Ask every descendant to end, and kill those that have not when GRACE is over."""
    me = psutil.Process()
    for process in me.children(recursive=True):
        _signal(process, signal.SIGTERM)
    end = time.monotonic() + GRACE
    while (left := _living(me)) and time.monotonic() < end:
        psutil.wait_procs(left, timeout=POLL)
    while left := _living(me):
        for process in left:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=POLL)


def _living(me: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in me.children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    _, parent_id, log_path, variable, *words = sys.argv
    sys.exit(main(int(parent_id), log_path, variable, words) & 0xFF)
