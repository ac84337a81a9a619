"""An inference server that star-rft starts for one model, and ends before training."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from star_rft.addresses import Key
from star_rft.errors import RunFailure, UserError
from star_rft.types import Model

SUPERVISOR = Path(__file__).with_name("supervisor.py")
POLL = 0.1
TAIL = 20  # lines of the log that an error shows
LONGEST_END = 30.0  # seconds: the supervisor kills what has not ended before


class LocalServer:
    """Runs `command` with {model} and {port} filled in, in a session of its own, with its output in the file `log`.

    `close` ends it with all processes that it started. If this process dies in any way, that happens within a second.
    """

    def __init__(self, command: str, model: Model, *, log: Path, key: Key) -> None:
        words = shlex.split(command)
        if not words or shutil.which(words[0]) is None:
            raise UserError(f"server.start: no such program: {words[0] if words else '(none)'}")
        port = _free_port()
        name = str(Path(model).resolve()) if Path(model).exists() else str(model)
        filled = [word.replace("{model}", name).replace("{port}", str(port)) for word in words]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as stream:
            stream.write(f"== {key.hidden_in(shlex.join(filled))}\n")
        self.url = f"http://127.0.0.1:{port}/v1"
        self.log = log
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", str(SUPERVISOR), str(os.getpid()), str(log), key.variable or "", *filled],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self, answers: Callable[[str], bool], *, timeout: float) -> None:
        """Wait until `answers(url)` is true.

        Raises:
            RunFailure: The server has ended, or `timeout` seconds are over; with the end of its log.
        """
        end = time.monotonic() + timeout
        while not answers(self.url):
            self.require_alive()
            if time.monotonic() > end:
                self.close()
                raise RunFailure(f"the server of server.start did not answer within {timeout:g} s{self._tail()}")
            time.sleep(POLL)

    def require_alive(self) -> None:
        """Raise RunFailure, with the end of its log, for a server that has ended."""
        status = self._supervisor.poll()
        if status is not None:
            raise RunFailure(f"the server of server.start ended with status {status}{self._tail()}")

    def close(self) -> None:
        """End the server and its children; returns when they are gone."""
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
            try:
                self._supervisor.wait(LONGEST_END)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return f"; the end of {self.log}:\n" + "\n".join(lines)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
