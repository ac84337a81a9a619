"""One vLLM engine as its parent sees it: a process group, lines to and from it, a log, signs of life."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

from star_rft.errors import RunFailure, UserError
from star_rft.processes import is_alive, kill_groups, members
from star_rft.samplers.engine_log import log_tail
from star_rft.samplers.interpreter import WORKER

AHEAD = 2  # times as many requests are handed to an engine as it runs at once
CLOSED_WITHIN = 15.0  # seconds that vLLM gets to shut down in order before it is killed
THREADS_WITHIN = 5.0  # seconds; they end with the pipes

Message = dict[str, Any]
Received = Callable[["Replica", Message], None]


class Replica:
    """A worker process and its children. `first` tells it what to load.

    `received` gets every result, and `{"is": "dead"}` when no more can come, in a thread that only reads.
    """

    def __init__(
        self,
        python: str,
        *,
        first: Message,
        env: Mapping[str, str],
        stall: float,
        received: Received,
    ) -> None:
        self.stall = stall
        self.outstanding = 0  # requests that it has and has not answered; its owner counts
        self._inside: list[psutil.Process] = []
        self.is_ready = Event()
        self.limit, self.rows = 0, 1  # the longest sequence, and how many it runs at once: known once it is ready
        handle, log = tempfile.mkstemp(prefix="star-rft-vllm-", suffix=".log")
        self.log = Path(log)
        requests_fd, self._requests_fd = os.pipe()
        self._results_fd, results_fd = os.pipe()
        self.process = subprocess.Popen(
            [python, str(WORKER), str(requests_fd), str(results_fd)],
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            pass_fds=(requests_fd, results_fd),
            start_new_session=True,
        )
        for fd in (handle, requests_fd, results_fd):
            os.close(fd)
        self._received = received
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._last_words: Message | None = None
        self._progress = self._log_size = -1
        self._moved = time.monotonic()
        self._threads = [Thread(target=work, daemon=True) for work in (self._write, self._read, self._reap)]
        for thread in self._threads:
            thread.start()
        self.send(first)

    @property
    def has_room(self) -> bool:
        return self.outstanding < AHEAD * self.rows

    def send(self, message: Message) -> None:
        """Hand over a message; never blocks, whatever state the process is in."""
        self._outbox.put(message)

    def moved(self) -> None:
        """Note that there is new work, or a sign of life: the time of a stall begins anew."""
        self._moved = time.monotonic()

    def check(self) -> None:
        """Raise RunFailure if a process of vLLM is gone, or nothing has moved for `stall` seconds.

        What moves is a step, or a line in the log while it loads: a large model may load for longer than that.
        """
        if gone := [process.pid for process in self._inside if not is_alive(process)]:  # 0.32 waits for it for ever
            raise RunFailure(
                f"the vLLM engine (process {self.process.pid}) is dead: its process {gone[0]} has ended; "
                f"{log_tail(self.log)}"
            )
        if not self.is_ready.is_set() and (size := self.log.stat().st_size) != self._log_size:
            self._log_size = size
            self.moved()
        if time.monotonic() - self._moved > self.stall:
            raise RunFailure(
                f"the vLLM engine (process {self.process.pid}) has not moved for {self.stall:g} seconds "
                f"(vllm.stall) and was ended; {log_tail(self.log)}"
            )

    def failure(self) -> RunFailure | UserError:
        """Say why the process ended, with the tail of its log."""
        status = self.process.wait()
        if self._last_words and self._last_words["is"] == "refused":
            return UserError(self._last_words["why"])
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        why = f", {self._last_words['why']}" if self._last_words else ""
        return RunFailure(f"the vLLM engine (process {self.process.pid}) is dead ({how}{why}); {log_tail(self.log)}")

    def ask_to_close(self) -> None:
        """Ask it to shut down in order, so that it gives back shared memory; `end` waits for that."""
        self.send({"do": "close"})

    def end(self, *, in_order: bool) -> None:
        """End all its processes, `in_order` if there is time; RunFailure if one is left. Out of order its log stays."""
        if in_order:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSED_WITHIN)
        kill_groups([self.process.pid])
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(THREADS_WITHIN)
        if in_order:
            self.log.unlink(missing_ok=True)

    def _reap(self) -> None:
        """Take what vLLM has started along when the worker dies: it would keep memory, and the pipes open."""
        self.process.wait()
        kill_groups([self.process.pid])

    def _read(self) -> None:
        with os.fdopen(self._results_fd, encoding="utf-8", errors="replace") as results:
            for line in results:
                if line.endswith("\n"):  # else it died in the middle of it
                    self._hear(json.loads(line))
        self._received(self, {"is": "dead"})

    def _hear(self, message: Message) -> None:
        if message["is"] == "beat":
            if message["steps"] != self._progress:
                self._progress = message["steps"]
                self.moved()
        elif message["is"] in ("refused", "failed"):
            self._last_words = message
        elif message["is"] == "ready":
            self._inside = processes_of_vllm(self.process.pid)
            self.limit, self.rows = message["max_model_len"], message["max_num_seqs"]
            self.is_ready.set()
        else:
            self.moved()
            self._received(self, message)

    def _write(self) -> None:
        # Closing writes what is left, which fails again where writing did: it is dead, which the reader tells.
        with suppress(BrokenPipeError), os.fdopen(self._requests_fd, "w", encoding="utf-8") as requests:
            while (message := self._outbox.get()) is not None:
                requests.write(json.dumps(message) + "\n")
                requests.flush()


def processes_of_vllm(group: int) -> list[psutil.Process]:
    """Return those of a group that vLLM names as its own and that stay: not what it runs for a moment."""
    found = []
    for pid in members(group):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if " ".join(process.cmdline()).startswith("VLLM::"):
                found.append(process)
    return found
