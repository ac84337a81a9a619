"""The parent's side of a worker process: frames out, rows in, a heartbeat, and kill."""

from __future__ import annotations

import marshal
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifiers.registry import WorkerLoadError
from verifiers.types import Verdict
from verifiers.workers.heartbeat import SIZE, Heartbeat
from verifiers.workers.worker import HEADER, Recipe, Row

# The folder of this package comes first only until the parent's sys.path arrives in the first frame. Without
# -P the working directory would come before it, and a types.py there would be imported in place of Python's.
_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from verifiers.workers.worker import main; main()"
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])


@dataclass(slots=True, eq=False)
class Item:
    """One pair on its way to a verdict. `payload` is the pickled pair, dropped once the verdict is there.

    `deaths` is how many workers have died over it of themselves, or of somebody outside.
    """

    payload: bytes
    verdict: Verdict | None = None
    is_cancelled: bool = False
    deaths: int = 0


class WorkerProcess:
    """Rows arrive in the order in which items were sent, so `in_flight[0]` always awaits the next row."""

    def __init__(self, recipe: Recipe, selector: selectors.BaseSelector, on_event: Callable[[Any], None]) -> None:
        if not sys.executable:
            raise WorkerLoadError("sys.executable is empty, so no worker process can start; use workers=0")
        with tempfile.TemporaryFile() as shared:
            shared.truncate(SIZE)
            self._heartbeat = Heartbeat(shared.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _PACKAGE_FOLDER, str(shared.fileno()), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[shared.fileno()],
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self._selector = selector
        self._selector.register(self._stdout, selectors.EVENT_READ, lambda: on_event(self))
        self._outbox: deque[memoryview] = deque()
        self._inbox = bytearray()
        self._done = 0
        self.in_flight: deque[Item] = deque()
        self.is_loaded = False
        self.is_closed = False
        self.spawned = time.monotonic()
        self._post(pickle.dumps(recipe))

    def send(self, items: Sequence[Item]) -> None:
        self.in_flight.extend(items)
        self._post(marshal.dumps([item.payload for item in items]))

    def _post(self, body: bytes) -> None:
        was_empty = not self._outbox
        self._outbox.append(memoryview(HEADER.pack(len(body)) + body))
        if was_empty and not self._has_flushed():
            self._selector.register(self._stdin, selectors.EVENT_WRITE, self._flush)

    def _flush(self) -> None:
        if not self.is_closed and self._has_flushed():  # closed by an event before this one
            self._selector.unregister(self._stdin)

    def _has_flushed(self) -> bool:
        """Write what the pipe takes, for a worker that hangs must not block its parent; True if that was all."""
        while self._outbox:
            try:
                written = os.write(self._stdin.fileno(), self._outbox[0])
            except BlockingIOError:
                return False
            except BrokenPipeError:  # it died; the end of its output says so too
                self._outbox.clear()
                break
            self._outbox[0] = self._outbox[0][written:]
            if not self._outbox[0]:
                self._outbox.popleft()
        return True

    def receive(self) -> tuple[list[Row], bool]:
        """Return the rows that have arrived and whether the process is still there; raise WorkerLoadError."""
        is_alive = True
        while True:
            try:
                data = os.read(self._stdout.fileno(), 1 << 18)
            except BlockingIOError:
                break
            if not data:
                is_alive = False
                break
            self._inbox += data
        rows: list[Row] = []
        for body in self._frames():
            if isinstance(body, str):
                raise WorkerLoadError(f"a worker process could not load the verifier:\n{body}")
            self.is_loaded = True
            rows.extend(body)
        self._done += len(rows)
        return rows, is_alive

    def _frames(self) -> Iterable[list[Row] | str]:
        offset = 0
        while len(self._inbox) - offset >= HEADER.size:
            (size,) = HEADER.unpack_from(self._inbox, offset)
            end = offset + HEADER.size + size
            if len(self._inbox) < end:
                break
            yield marshal.loads(self._inbox[offset + HEADER.size : end])
            offset = end
        del self._inbox[:offset]

    def is_stopped(self) -> bool:
        """Whether somebody has suspended it (SIGSTOP, a freezer): then its silence says nothing about its item."""
        try:
            state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # no /proc on this system, or it is gone
            return False
        return state in ("T", "t")

    def current(self) -> tuple[int, float] | None:
        """Return (position in `in_flight`, start) of the item being checked, or None between items."""
        state = self._heartbeat.read()
        if state is None or state[0] <= self._done:
            return None
        return state[0] - 1 - self._done, state[1]

    def kill(self) -> int:
        """Kill the process with everything it started; return its exit status."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # gone, or before it became a leader of its own group
            self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """Kill, and give every file descriptor back."""
        self.is_closed = True
        self.kill()
        self._selector.unregister(self._stdout)
        if self._outbox:
            self._selector.unregister(self._stdin)
        self._stdin.close()
        self._stdout.close()
        self._heartbeat.close()
