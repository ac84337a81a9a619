"""Background thread that feeds worker processes, collects their verdicts and kills those that hang.

It runs beside the caller, who computes the next completion meanwhile.
"""

from __future__ import annotations

import logging
import os
import pickle
import selectors
import threading
import time
from collections import deque
from typing import Any

from verifiers.registry import Check, WorkerLoadError
from verifiers.types import Verdict
from verifiers.workers.heartbeat import LOAD_LIMIT
from verifiers.workers.process import Item, WorkerProcess
from verifiers.workers.worker import Recipe, Row

log = logging.getLogger("verifiers")

_MAX_CHUNK = 128
_MAX_CHUNK_BYTES = 1 << 20
# A chunk takes about this long: long enough to hide the cost of the pipe, short enough to share the work evenly.
_CHUNK_SECONDS = 0.01
# For items as short as this the next one already waits in the worker's pipe, so that the worker never waits for this
# thread.
_SHORT_SECONDS = 0.1
# An item that has used this share of its time limit may hang: a spare worker starts, to be ready when it is killed.
_SUSPICIOUS_SHARE = 0.25
# Seconds until the next look at a worker that still loads, or is between two items.
_BETWEEN_ITEMS = 0.05
_MAX_START_FAILURES = 3
_MAX_LOGGED_FAULTS = 20
_DIED = "died"  # why a worker is replaced: not by this thread's kill


class Engine:
    """The queue of a `Pool` and the thread that empties it. Only that thread touches the workers.

    Args:
        check: The check, for its name and version.
        recipe: What a worker builds the check from.
        workers: Most processes to run.
        timeout: Seconds an item, after which its worker is killed.
    """

    def __init__(self, check: Check, recipe: Recipe, *, workers: int, timeout: float) -> None:
        self._check, self._recipe, self._limit, self._timeout = check, recipe, workers, timeout
        self._queue: deque[Item] = deque()
        self._workers: list[WorkerProcess] = []
        self._spare: WorkerProcess | None = None
        self._pace: float | None = None  # seconds an item, an exponential moving average
        self._start_failures = 0
        self._faults_seen: set[str] = set()
        self._failure: BaseException | None = None
        # The lock is entered itself, never through the condition: an exception from a signal handler can leave
        # `Condition.__enter__` with the lock taken, which then is never released.
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._is_sleeping = False
        self._is_closing = False
        self._pid = os.getpid()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wake_ups)
        self._thread = threading.Thread(target=self._run, name=f"verifiers-{check.name}", daemon=True)
        self._thread.start()

    # Called from the caller's threads

    def submit(self, completion: str, reference: Any) -> Item:
        """Queue a pair; raise what ended the engine, if it has ended."""
        if not isinstance(completion, str):
            raise TypeError(f"a completion must be a str, not {type(completion).__name__}: {completion!r:.80}")
        if os.getpid() != self._pid:
            raise RuntimeError("this pool belongs to the process that forked; open a Pool in the child")
        if self._failure is not None:
            raise self._failure
        item = Item(pickle.dumps((completion, reference), protocol=5))
        self._queue.append(item)
        if self._is_sleeping:
            self._wake()
        return item

    def wait(self, item: Item) -> Verdict:
        """Return the verdict of an item; raise what ended the engine, if it has ended."""
        while item.verdict is None:
            with self._lock:
                if item.verdict is None:
                    if self._failure is not None:
                        raise self._failure
                    self._arrived.wait()
        return item.verdict

    def close(self) -> None:
        """Kill the workers and end the thread; items without a verdict stay without one."""
        if os.getpid() == self._pid:
            self._is_closing = True
            self._wake()
            if threading.current_thread() is not self._thread:  # garbage collection calls this from any thread
                self._thread.join()

    def _wake(self) -> None:
        # Under the lock: the thread closes the pipe when it ends, and the descriptor's number may be used again.
        with self._lock:
            self._is_sleeping = False
            if self._failure is None:
                try:
                    os.write(self._wake_write, b"x")
                except BlockingIOError:  # the pipe is full of wake-ups
                    return

    # Run by the thread

    def _run(self) -> None:
        failure: BaseException = RuntimeError("this pool is closed")
        try:
            while not self._is_closing:
                self._dispatch()
                self._is_sleeping = True
                # An item queued before the flag was set sent no wake-up; then look at the pipes without waiting.
                wait = 0.0 if self._queue and self._room() else self._patience()
                for key, _ in self._selector.select(wait):
                    key.data()
                self._is_sleeping = False
                self._enforce_deadlines()
        except WorkerLoadError as error:
            failure = error
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(failure)

    def _end(self, failure: BaseException) -> None:
        for worker in [*self._workers, *([self._spare] if self._spare else [])]:
            worker.close()
        with self._lock:
            self._failure = failure
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._arrived.notify_all()

    def _drain_wake_ups(self) -> None:
        os.read(self._wake_read, 1 << 16)

    def _spawn(self) -> WorkerProcess:
        return WorkerProcess(self._recipe, self._selector, self._collect)

    def _chunk_size(self) -> int:
        if self._pace is None:
            return 1
        # An even share of the queue, rounded up, so that the last chunks do not leave workers idle.
        fair = -(-len(self._queue) // self._limit)
        return max(1, min(int(_CHUNK_SECONDS / max(self._pace, 1e-7)), fair, _MAX_CHUNK))

    def _room(self) -> WorkerProcess | None:
        """Return the worker to feed next: an idle one, a new one, or one with too few items waiting; else None."""
        worker = min(self._workers, key=lambda worker: len(worker.in_flight), default=None)
        if worker is not None and not worker.in_flight:
            return worker
        if len(self._workers) < self._limit:
            self._workers.append(self._spawn())
            return self._workers[-1]
        has_room = worker is not None and len(worker.in_flight) < self._lead() <= len(self._queue)
        return worker if has_room else None

    def _lead(self) -> int:
        """Return how many items a busy worker may hold: all but one would wait longer if that one hangs."""
        if self._pace is None or self._pace > _SHORT_SECONDS:
            return 1
        return max(2, self._chunk_size())

    def _dispatch(self) -> None:
        while self._queue and (worker := self._room()):
            chunk: list[Item] = []
            size, room = self._chunk_size(), _MAX_CHUNK_BYTES
            while self._queue and len(chunk) < size and room > 0:
                item = self._queue.popleft()
                if not item.is_cancelled:
                    chunk.append(item)
                    room -= len(item.payload)
            if chunk:
                worker.send(chunk)

    def _collect(self, worker: WorkerProcess) -> None:
        if worker.is_closed:  # by another event of the same select
            return
        rows, is_alive = worker.receive()
        if rows:
            self._settle(worker, rows)
        if worker.is_loaded:
            self._start_failures = 0
        if not is_alive:
            self._replace(worker, _DIED)

    def _settle(self, worker: WorkerProcess, rows: list[Row]) -> None:
        spent = sum(row[5] for row in rows) / len(rows)
        self._pace = spent if self._pace is None else 0.7 * self._pace + 0.3 * spent
        for status, score, answer, reason, version, seconds, message in rows:
            item = worker.in_flight.popleft()
            item.payload = b""
            item.verdict = Verdict(
                status,  # type: ignore[arg-type]  # the worker has checked both against the closed sets
                score,
                answer,
                reason,  # type: ignore[arg-type]
                self._check.name,
                version,
                seconds,
            )
            if message is not None:
                self._log_fault(message)
        with self._lock:
            self._arrived.notify_all()

    def _log_fault(self, message: str) -> None:
        """Log each kind of fault once, because a broken check fails on every item."""
        kind = message.rstrip().rpartition("\n")[2]
        if kind not in self._faults_seen and len(self._faults_seen) < _MAX_LOGGED_FAULTS:
            self._faults_seen.add(kind)
            log.warning("verifier %r failed, the verdict is unknown: %s", self._check.name, message)

    def _patience(self) -> float | None:
        """Return the seconds until the next time limit may pass, or None while no worker has an item."""
        busy = [worker for worker in self._workers if worker.in_flight]
        if not busy:
            return None
        now = time.monotonic()
        limit = self._timeout * (1.0 if self._spare else _SUSPICIOUS_SHARE)
        spots = [worker.current() for worker in busy]
        left = [_BETWEEN_ITEMS if spot is None else spot[1] + limit - now for spot in spots]
        return max(0.001, min(left))

    def _enforce_deadlines(self) -> None:
        for worker in list(self._workers):
            if not worker.in_flight:
                continue
            spot = worker.current()
            if spot is None:
                if not worker.is_loaded and time.monotonic() - worker.spawned > LOAD_LIMIT:
                    self._replace(worker, f"did not load within {LOAD_LIMIT:.0f} s")
                elif worker.is_loaded and worker.is_stopped():  # suspended between two items
                    self._replace(worker, _DIED)
                continue
            spent = time.monotonic() - spot[1]
            if spent > self._timeout:
                self._replace(
                    worker, _DIED if worker.is_stopped() else f"was killed at its limit of {self._timeout:g} s"
                )
            elif spent > self._timeout * _SUSPICIOUS_SHARE and self._spare is None:
                self._spare = self._spawn()

    def _replace(self, worker: WorkerProcess, what: str) -> None:
        """Kill a worker: the item that it was checking is unknown, its other items go to the next worker.

        A worker that died or is suspended may have been killed or stopped from outside (by the kernel for memory, by
        a person). Then its item is checked once more, and is unknown only if that worker dies too.
        """
        worker.kill()
        rows, _ = worker.receive()
        if rows:
            self._settle(worker, rows)
        spot = worker.current()
        worker.close()
        if worker is self._spare:
            self._spare = None
        else:
            self._workers.remove(worker)
        if not worker.is_loaded:
            self._start_failures += 1
            if self._start_failures >= _MAX_START_FAILURES:
                raise WorkerLoadError(f"{self._start_failures} workers in a row {what} before their first item")
        if spot is not None and spot[0] < len(worker.in_flight):
            item = worker.in_flight[spot[0]]
            item.deaths += what == _DIED
            if what != _DIED or item.deaths > 1:
                self._blame(item, what, time.monotonic() - spot[1])
        self._queue.extendleft(item for item in reversed(worker.in_flight) if item.verdict is None)
        if self._spare is not None:
            self._workers.append(self._spare)
            self._spare = None

    def _blame(self, item: Item, what: str, seconds: float) -> None:
        item.payload = b""
        item.verdict = Verdict("unknown", None, None, "fault", self._check.name, self._check.version, seconds)
        self._log_fault(f"its worker process {what}")
        with self._lock:
            self._arrived.notify_all()
