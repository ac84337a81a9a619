"""Background thread that verifies completions, joins them to traces and commits whole units."""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

from star_rft.ledger import batches
from star_rft.progress import SamplingProgress
from star_rft.runs.timing import Note, Span
from star_rft.sampling.context import RunContext
from star_rft.sampling.hints import leaks
from star_rft.sampling.jobs import UnitJob
from star_rft.sampling.verdicts import final_verdict, judged_text
from star_rft.types import Completion, Sample, digest
from verifiers.rewards import Tally
from verifiers.types import Verdict

AHEAD = 8192  # completions that may wait for their verdicts before the sampler has to wait as well
PATIENCE = 0.2  # seconds between two checks whether the other thread has failed
FAREWELL = 2.0  # seconds that the thread has to end when its work is given up


class VerifierPool(Protocol):
    """Verifies completions in worker processes: `verifiers.Pool`."""

    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]:
        """Yield the verdict of each (completion, reference), in order."""
        ...


class Store(Protocol):
    """Where units are committed: a ledger, or parts of one whose manifest another process writes."""

    def commit(self, unit: str, pairs: list[tuple[Sample, Verdict]], *, seconds: dict[str, float]) -> object:
        """Store a whole unit, or nothing of it."""
        ...


@dataclass(slots=True)
class OpenUnit:
    """A unit of which some completions are still to be drawn or verified."""

    job: UnitJob
    pairs: list[tuple[Sample, Verdict]] = field(default_factory=list)
    verification_began: float = 0.0  # Unix time
    seconds: dict[str, float] = field(default_factory=dict)  # set before the last completion is handed over


class Writer:
    """A thread that verifies and commits, as a context manager.

    Leaving the block waits until everything is committed. After an exception whole units are still committed; after
    KeyboardInterrupt and the like the rest is given up. An error of the thread is raised by the next `hand`, or at the
    end of the block.
    """

    def __init__(self, pool: VerifierPool, store: Store, watched: SamplingProgress, note: Note) -> None:
        self._pool, self._store, self._watched, self._note = pool, store, watched, note
        self._queue: queue.Queue[tuple[OpenUnit, Completion] | None] = queue.Queue(AHEAD)
        self._awaiting_verdict: deque[tuple[OpenUnit, Completion]] = deque()
        self._is_given_up = False
        self._threads = ThreadPoolExecutor(1, "writer")
        self._ending: Future[None] = Future()

    def hand(self, unit: OpenUnit, completion: Completion) -> float:
        """Hand a completion over; return the seconds that this had to wait for verification to keep up."""
        started = perf_counter()
        is_waiting = self._put((unit, completion))
        return perf_counter() - started if is_waiting else 0.0

    def _put(self, item: tuple[OpenUnit, Completion] | None) -> bool:
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

    def __enter__(self) -> Writer:
        self._ending = self._threads.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False)
        if error is None:
            self._finish()
        elif isinstance(error, Exception):
            with suppress(Exception):  # the sampler's error is raised; units that are whole are committed all the same
                self._finish()
        else:
            self._give_up()

    def _finish(self) -> None:
        try:
            self._put(None)
            self._ending.result()
        except Exception:
            raise
        except BaseException:  # KeyboardInterrupt while it waits
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
            unit, completion = self._awaiting_verdict.popleft()
            self._watched.judged()
            unit.pairs.append((sample_of(completion, unit.job), final_verdict(verdict, completion.finish_reason)))
            if len(unit.pairs) == len(unit.job.requests) and not self._is_given_up:
                self._commit(unit)

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        while True:
            item = self._queue.get()
            if self._is_given_up:
                raise _GivenUp  # the pool then cancels what waits for its verdict
            if item is None:
                return
            unit, completion = item
            unit.verification_began = unit.verification_began or time.time()
            self._awaiting_verdict.append(item)
            problem = unit.job.problems[completion.request.problem_id]
            yield judged_text(completion.text, completion.finish_reason), problem.reference

    def _commit(self, unit: OpenUnit) -> None:
        job, judged = unit.job, time.time()
        busy = sum(verdict.seconds for _, verdict in unit.pairs)
        self._note(Span("verifier", job.stage, job.round, unit.verification_began, judged, busy))
        unit.pairs.sort(key=lambda pair: (pair[0].problem_id, pair[0].sample_index))
        self._store.commit(job.unit.name, unit.pairs, seconds=unit.seconds)
        written = time.time()
        self._note(Span("writer", job.stage, job.round, judged, written, written - judged))
        unit.pairs = []


class _GivenUp(Exception):
    """Ends the thread's work; nothing catches it but the thread's Future, whose result is not read then."""


# From a completion to a sample and its verdict


def sample_of(completion: Completion, job: UnitJob) -> Sample:
    """Return a completion as a row of the ledger."""
    request = completion.request
    return Sample(
        problem_id=request.problem_id,
        split=job.unit.split,
        round=job.round,
        sample_index=request.sample_index,
        model=job.model_id,
        decode_id=job.decoding.id,
        prompt_sha=digest(request.prompt),
        seed=request.seed,
        hinted=job.is_hinted,
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        logprob=completion.logprob,
        leaks_hint=job.is_hinted and leaks(completion.text, job.problems[request.problem_id]),
        ids_are_sampled=completion.ids_are_sampled,
    )


class CountedPool:
    """A pool that counts its verdicts, for the warning when too many are unknown."""

    def __init__(self, pool: VerifierPool) -> None:
        self.pool = pool
        self.tally = Tally()

    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]:
        """Yield the pool's verdicts and count them in `tally`."""
        return self.tally.watch(self.pool.verify_iter(pairs))


def verify_again(context: RunContext, pool: VerifierPool) -> dict[str, int]:
    """Verify every sample of the ledger again; the new verdicts supersede the old ones.

    Returns how many verdicts changed, by "from -> to".
    """
    references = {p.id: p.reference for problems in context.problems.values() for p in problems}
    units = context.ledger.units()
    query = "select sample_id, problem_id, text, finish_reason, status from traces order by sample_id"
    total = sum(line["rows"] for line in units.values() if "samples" in line["parts"])
    counted, changed = CountedPool(pool), Counter[str]()
    with context.progress.stage("verifying again", total) as advance:
        for index, rows in enumerate(batches(context.ledger.connect(), query)):
            pairs = ((judged_text(r["text"], r["finish_reason"]), references[r["problem_id"]]) for r in rows)
            found = zip(rows, counted.verify_iter(pairs), strict=True)
            judged = [(row, final_verdict(verdict, row["finish_reason"])) for row, verdict in found]
            changed.update(f"{r['status']} -> {v.status}" for r, v in judged if r["status"] != v.status)
            newer = [(row["sample_id"], row["text"], verdict) for row, verdict in judged]
            context.ledger.supersede(f"verify-{len(units):05d}-{index:05d}", newer)
            advance(len(rows), 0)
    counted.tally.warn()
    return dict(changed)
