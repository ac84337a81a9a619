"""The parent's side of a worker process: sends items, receives rows of verdicts, reads its heartbeat, kills it."""

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

# The worker imports this package from its folder; the parent's sys.path comes with the first frame and replaces that.
# Without -P the working directory would be searched first, and a types.py there imported in place of Python's.
_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from verifiers.workers.worker import main; main()"
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])


@dataclass(slots=True, eq=False)
class Item:
    """One pair that was submitted, and its verdict once there is one.

    `payload` is the pickled pair, empty when it is no longer needed. `deaths` counts the workers that died, without
    being killed at the time limit, while they checked the item.
    """

    payload: bytes
    verdict: Verdict | None = None
    is_cancelled: bool = False
    deaths: int = 0


class WorkerProcess:
    """A worker process. Rows arrive in the order in which items were sent: the next one is of `in_flight[0]`.

    Args:
        recipe: The check to build.
        selector: Watches the worker's pipes.
        on_event: Called with this object when rows may have arrived.
    """

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
        """Send items as one frame; what the pipe does not take yet is sent when the selector finds room."""
        self.in_flight.extend(items)
        self._post(marshal.dumps([item.payload for item in items]))

    def _post(self, body: bytes) -> None:
        was_empty = not self._outbox
        self._outbox.append(memoryview(HEADER.pack(len(body)) + body))
        if was_empty and not self._has_flushed():
            self._selector.register(self._stdin, selectors.EVENT_WRITE, self._flush)

    def _flush(self) -> None:
        if not self.is_closed and self._has_flushed():  # by another event of the same select
            self._selector.unregister(self._stdin)

    def _has_flushed(self) -> bool:
        """Write as much as the pipe takes, because a worker that hangs must not block its parent; True if all."""
        while self._outbox:
            try:
                written = os.write(self._stdin.fileno(), self._outbox[0])
            except BlockingIOError:
                return False
            except BrokenPipeError:  # it died, and `receive` will find its output closed
                self._outbox.clear()
                break
            self._outbox[0] = self._outbox[0][written:]
            if not self._outbox[0]:
                self._outbox.popleft()
        return True

    def receive(self) -> tuple[list[Row], bool]:
        """Return (rows that have arrived, whether the process is alive).

        Raises WorkerLoadError with the worker's traceback where it could not load the check.
        """
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
            if isinstance(body, str):  # a traceback instead of rows
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
        """Whether the process is suspended (SIGSTOP, a freezer), so that its silence does not blame its item."""
        try:
            state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # no /proc on this system, or the process is gone
            return False
        return state in ("T", "t")

    def current(self) -> tuple[int, float] | None:
        """Return (position in `in_flight`, start) of the item being checked, or None between items."""
        state = self._heartbeat.read()
        if state is None or state[0] <= self._done:
            return None
        return state[0] - 1 - self._done, state[1]

    def kill(self) -> int:
        """Kill the process group, which is the worker and whatever it started; return the worker's exit status."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # gone, or not yet the leader of a group of its own
            self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """Kill the process and close every file descriptor."""
        self.is_closed = True
        self.kill()
        self._selector.unregister(self._stdout)
        if self._outbox:
            self._selector.unregister(self._stdin)
        self._stdin.close()
        self._stdout.close()
        self._heartbeat.close()
