"""vLLM engines as seen from star-rft's process: their processes, pipes, logs, and how several share the requests.

`Replica` is one engine and `Replicas` all of a sampler. `vllm_version` finds the vLLM of an interpreter, and
`adapter_of` the adapter of a checkpoint that can be served on its base.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import psutil

from star_rft.engines.vllm.gpus import GpuMemory, shares
from star_rft.errors import RunFailure, UserError
from star_rft.processes import is_alive, kill_groups, log_tail, members
from star_rft.types import Request

AHEAD = 2  # times as many requests are handed to an engine as it runs at once
CLOSED_WITHIN = 15.0  # seconds that vLLM gets to shut down in order before it is killed
THREADS_WITHIN = 5.0  # seconds; they end with the pipes

Message = dict[str, Any]
Received = Callable[["Replica", Message], None]


class Replica:
    """One engine: a worker process (`worker.py`) with its children, and three threads that write, read and reap.

    Args:
        python: The interpreter that has vLLM.
        first: The message that says what to load.
        env: The environment of the process.
        stall: Seconds without a sign of progress after which `check` gives it up.
        received: Called, in the reading thread, with every result, and with `{"is": "dead"}` when no more can come.
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
        """Whether it has fewer requests than keep its batch full."""
        return self.outstanding < AHEAD * self.rows

    def send(self, message: Message) -> None:
        """Hand over a message; never blocks, whatever state the process is in."""
        self._outbox.put(message)

    def moved(self) -> None:
        """Restart the clock of a stall: there is new work, or progress."""
        self._moved = time.monotonic()

    def check(self) -> None:
        """Raise RunFailure if a process of vLLM has ended, or there was no progress for `stall` seconds.

        Progress is a step of the engine; while it loads, which may take longer than `stall`, a line in its log.
        """
        # vLLM 0.32 itself waits for ever for a child that was killed.
        if gone := [process.pid for process in self._inside if not is_alive(process)]:
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
        """Ask the process to shut down by itself, which frees its shared memory; `end` waits for that."""
        self.send({"do": "close"})

    def end(self, *, in_order: bool) -> None:
        """End all its processes; RunFailure if one is left.

        With `in_order` the worker has CLOSED_WITHIN seconds to end by itself, and its log is removed. Without, it is
        killed, and the log stays: it has the reason.
        """
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
        """Kill vLLM's own processes when the worker has died: they would keep GPU memory, and the pipes open."""
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
    """Return the processes of a group that vLLM has named `VLLM::...`: those that live as long as the engine."""
    found = []
    for pid in members(group):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if " ".join(process.cmdline()).startswith("VLLM::"):
                found.append(process)
    return found


CHECK_SECONDS = 0.5  # how often a wait for results looks whether the engines still move

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # nothing leaves the machine


@dataclass(frozen=True, slots=True)
class SeededPrompt:
    """A prompt's token ids, the requests for it, and the seed that vLLM is given for each."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]
    seeds: tuple[int, ...]


class Replicas:
    """Engines that start together, share the requests, and end together: when one fails, all are ended.

    `limit` is the longest sequence that every one of them takes.
    """

    def __init__(
        self, python: str, *, first: Message, replicas: int, gpus_each: int, env: Mapping[str, str], stall: float
    ) -> None:
        """Start the engines and wait until all are ready. RunFailure or UserError, and none left, if one fails."""
        given = {**os.environ, **env}
        gpus = shares(replicas, gpus_each, given)
        self._memory = GpuMemory.used_now(gpus, gpus_each, given)
        self._numbers = count()
        self._lock = Lock()
        self._jobs: dict[int, queue.SimpleQueue[Message]] = {}
        self._dead: list[Replica] = []
        self._failure: RunFailure | UserError | None = None
        self._replicas: list[Replica] = []
        try:
            for share in gpus:
                visible = {} if share is None else {"CUDA_VISIBLE_DEVICES": ",".join(share)}
                environment = {**QUIET, **given, **visible}
                self._replicas.append(
                    Replica(python, first=first, env=environment, stall=stall, received=self._receive)
                )
            while not all(replica.is_ready.wait(CHECK_SECONDS) for replica in self._replicas):
                self._check()
            self._memory = self._memory.with_engines()
        except BaseException:  # a Ctrl-C too must not leave an engine behind
            self._end(in_order=False)
            raise
        self.limit = min(replica.limit for replica in self._replicas)

    def draw(self, prompts: Sequence[SeededPrompt], params: Message) -> Iterator[tuple[Request, Message]]:
        """Yield each request with the engine's answer, as they come. Closing the stream aborts what is under way."""
        job, inbox = next(self._numbers), queue.SimpleQueue[Message]()
        self._jobs[job] = inbox
        todo, under_way = deque(prompts), dict[str, tuple[Request, Replica]]()
        names = (f"{job}-{number}" for number in count())
        try:
            while todo or under_way:
                while todo and ((replica := self._roomiest()).has_room or not under_way):  # other jobs may fill it
                    under_way |= self._hand_over(todo.popleft(), params, replica, names)
                message = self._next(inbox)
                request, replica = under_way.pop(message["key"])
                self._count(replica, -1)
                yield request, message
        finally:
            del self._jobs[job]
            self._abort(under_way)

    def close(self) -> None:
        """End all engines; RunFailure if a process of theirs is left, or GPU memory that they had taken."""
        self._end(in_order=self._failure is None)
        if self._failure is None:
            self._memory.require_freed()

    def _hand_over(
        self, prompt: SeededPrompt, params: Message, replica: Replica, names: Iterator[str]
    ) -> dict[str, tuple[Request, Replica]]:
        # One message, hence one engine, a prompt: its samples share the prefix cache.
        keys = [next(names) for _ in prompt.requests]
        self._count(replica, len(keys))
        pairs = list(zip(keys, prompt.seeds, strict=True))
        replica.send({"do": "draw", "ids": prompt.ids, "requests": pairs, "params": params})
        return {key: (request, replica) for key, request in zip(keys, prompt.requests, strict=True)}

    def _roomiest(self) -> Replica:
        return min(self._replicas, key=lambda replica: replica.outstanding / replica.rows)

    def _count(self, replica: Replica, more: int) -> None:
        with self._lock:
            if replica.outstanding == 0:
                replica.moved()  # it was idle: it has all its time again
            replica.outstanding += more

    def _abort(self, under_way: Mapping[str, tuple[Request, Replica]]) -> None:
        for replica in self._replicas:
            if keys := [key for key, (_, whose) in under_way.items() if whose is replica]:
                replica.send({"do": "abort", "keys": keys})
                self._count(replica, -len(keys))

    def _next(self, inbox: queue.SimpleQueue[Message]) -> Message:
        while True:
            if self._dead or self._failure is not None:
                self._check()
            try:
                return inbox.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                self._check()

    def _check(self) -> None:
        """Raise the failure of an engine, if there is one: all engines end, and later calls raise it too."""
        try:
            if self._failure is None:
                for replica in self._dead:
                    raise replica.failure()
                for replica in self._replicas:
                    if replica.outstanding > 0 or not replica.is_ready.is_set():
                        replica.check()
        except (RunFailure, UserError) as failure:
            self._failure = failure
            self._end(in_order=False)
        if self._failure is not None:
            raise self._failure

    def _receive(self, replica: Replica, message: Message) -> None:
        """Take a message in the reading thread of an engine."""
        if message["is"] == "dead":
            self._dead.append(replica)
        elif (inbox := self._jobs.get(int(message["key"].partition("-")[0]))) is not None:
            inbox.put(message)

    def _end(self, *, in_order: bool) -> None:
        if in_order:
            for replica in self._replicas:
                replica.ask_to_close()
        for replica in self._replicas:
            replica.end(in_order=in_order)


RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the largest ranks that vLLM can be told


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of `folder` for the model `base`."""

    folder: Path
    base: str
    rank: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Engine arguments that let it be served."""
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(r for r in RANKS if r >= self.rank)}


def adapter_of(model_path: str | Path) -> Adapter | None:
    """Return the adapter of a checkpoint; None where it has none, or none that can be served on a base that is there.

    An adapter that brings whole layers along (`modules_to_save`), or is of another kind than plain LoRA, is not served.
    """
    folder = Path(model_path) / "adapter"
    file = folder / "adapter_config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text())
    base, rank = config.get("base_model_name_or_path"), config.get("r", 0)
    is_plain = config.get("peft_type") == "LORA" and not config.get("modules_to_save") and not config.get("use_dora")
    if not is_plain or not base or not (Path(base) / "config.json").is_file() or not 0 < rank <= RANKS[-1]:
        return None
    return Adapter(folder, base, rank)


WORKER = Path(__file__).with_name("worker.py")
ADVICE = "pip install 'star-rft[vllm]' there, or set vllm.python to the interpreter of an environment that has vLLM"


@lru_cache
def vllm_version(python: str) -> str:
    """Return the version of vLLM in the environment of an interpreter; UserError where there is none."""
    try:
        done = subprocess.run(
            [python, str(WORKER), "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UserError(f"vllm.python: {python} cannot be run ({error.strerror})") from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise UserError(f"vllm.python: {python} does not run as an interpreter ({error})") from error
    if done.returncode != 0:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit status {done.returncode}")
        raise UserError(f"vllm.python: {python} does not run as an interpreter ({last})")
    if not (version := done.stdout.strip()):
        raise UserError(f"vLLM is not installed for {python}: {ADVICE}")
    return version
