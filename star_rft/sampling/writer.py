"""What becomes of completions while the next ones are drawn: verified, joined to traces, committed unit by unit."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

from star_rft.progress import Sampling
from star_rft.runs.timing import Note, Span
from star_rft.types import Completion, Sample
from verifiers.types import Verdict

AHEAD = 8192  # completions that may wait for their verdicts before the sampler has to wait as well
PATIENCE = 0.2  # seconds between two looks at whether the other thread still lives
FAREWELL = 2.0  # seconds that a thread has to end when its work is given up


class VerifierPool(Protocol):
    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]: ...


class Store(Protocol):
    """Where units are committed: a ledger, or the parts of one that another process will have count."""

    def commit(self, unit: str, pairs: list[tuple[Sample, Verdict]], *, seconds: dict[str, float]) -> object: ...


@dataclass(slots=True)
class Job:
    """A unit in the making. `question` gives what is judged of a completion, `joined` the sample and final verdict."""

    name: str
    round: int
    stage: str
    size: int
    question: Callable[[Completion], tuple[str, Any]]
    joined: Callable[[Completion, Verdict], tuple[Sample, Verdict]]
    pairs: list[tuple[Sample, Verdict]] = field(default_factory=list)
    began: float = 0.0
    first_asked: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)  # set before the last completion is handed over


class Keeper:
    """A thread that verifies and commits. Leaving the block waits for all of it, or gives it up when stopped.

    What goes wrong in the thread is raised in the one that hands over, at the next completion or in the end.
    """

    def __init__(self, pool: VerifierPool, store: Store, watched: Sampling, note: Note) -> None:
        self._pool, self._store, self._watched, self._note = pool, store, watched, note
        self._queue: queue.Queue[tuple[Job, Completion] | None] = queue.Queue(AHEAD)
        self._asked: deque[tuple[Job, Completion]] = deque()
        self._is_given_up = False
        self._threads = ThreadPoolExecutor(1, "keeper")
        self._ending: Future[None] = Future()

    def hand(self, job: Job, completion: Completion) -> float:
        """Hand a completion over; return the seconds that this had to wait for verification to keep up."""
        started = perf_counter()
        is_waiting = self._put((job, completion))
        return perf_counter() - started if is_waiting else 0.0

    def _put(self, item: tuple[Job, Completion] | None) -> bool:
        """Put an item into the queue; say whether that took waiting."""
        is_waiting = False
        while True:
            if self._ending.done():
                self._ending.result()
            try:
                self._queue.put(item, timeout=PATIENCE if is_waiting else 0)
                return is_waiting
            except queue.Full:
                is_waiting = True

    def __enter__(self) -> Keeper:
        self._ending = self._threads.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False)
        if error is None:
            self._finish()
        elif isinstance(error, Exception):
            with suppress(Exception):  # the sampler's error is the one to tell; whole units are worth their verdicts
                self._finish()
        else:
            self._give_up()

    def _finish(self) -> None:
        try:
            self._put(None)
            self._ending.result()
        except Exception:
            raise
        except BaseException:  # stopped while it waits
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._is_given_up = True
        with suppress(queue.Empty):
            self._queue.get_nowait()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        wait([self._ending], timeout=FAREWELL)

    def _run(self) -> None:
        for verdict in self._pool.verify_iter(self._pairs()):
            job, completion = self._asked.popleft()
            self._watched.judged()
            job.pairs.append(job.joined(completion, verdict))
            if len(job.pairs) == job.size and not self._is_given_up:
                self._commit(job)

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        while True:
            item = self._queue.get()
            if self._is_given_up:
                raise _GivenUp  # and what waits for its verdict is cancelled
            if item is None:
                return
            job, completion = item
            job.first_asked = job.first_asked or time.time()
            self._asked.append(item)
            yield job.question(completion)

    def _commit(self, job: Job) -> None:
        judged = time.time()
        busy = sum(verdict.seconds for _, verdict in job.pairs)
        self._note(Span("verifier", job.stage, job.round, job.first_asked, judged, busy))
        job.pairs.sort(key=lambda pair: (pair[0].problem_id, pair[0].attempt))
        self._store.commit(job.name, job.pairs, seconds=job.seconds)
        written = time.time()
        self._note(Span("writer", job.stage, job.round, judged, written, written - judged))
        job.pairs = []


class _GivenUp(Exception):
    """Ends the thread's work where it stands; nobody asks for it."""
