"""Several engines that share the requests: all samples of a prompt go to one, whichever has the most room.

An engine is handed somewhat more than it runs at once, so that it never waits, and the rest as it finishes: a slow
engine gets less. Streams are jobs that know nothing of each other; what comes for one that was dropped is thrown away.
"""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Lock

from star_rft.errors import RunFailure, UserError
from star_rft.samplers.gpus import GpuMemory, shares
from star_rft.samplers.replica import Message, Replica
from star_rft.types import Request

CHECK_SECONDS = 0.5  # how often a wait for results looks whether the engines still move

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # nothing leaves the machine


@dataclass(frozen=True, slots=True)
class Ask:
    """The requests for one prompt, and the seed of each."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]
    seeds: tuple[int, ...]


class Replicas:
    """Engines that were started together and end together."""

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
                own = {} if share is None else {"CUDA_VISIBLE_DEVICES": ",".join(share)}
                environment = {**QUIET, **given, **own}
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

    def draw(self, asks: Sequence[Ask], params: Message) -> Iterator[tuple[Request, Message]]:
        """Yield each request with the engine's answer, as they come. Closing the stream aborts what is under way."""
        job, inbox = next(self._numbers), queue.SimpleQueue[Message]()
        self._jobs[job] = inbox
        todo, under_way = deque(asks), dict[str, tuple[Request, Replica]]()
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
        self, ask: Ask, params: Message, replica: Replica, names: Iterator[str]
    ) -> dict[str, tuple[Request, Replica]]:
        keys = [next(names) for _ in ask.requests]
        self._count(replica, len(keys))
        pairs = list(zip(keys, ask.seeds, strict=True))
        replica.send({"do": "draw", "ids": ask.ids, "requests": pairs, "params": params})
        return {key: (request, replica) for key, request in zip(keys, ask.requests, strict=True)}

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
        """Raise what has happened to an engine; then all of them end, and whoever still waits is told the same."""
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
