"""Verdicts from worker processes that can be killed: `verify_many`, `verify_iter`, `Pool`.

A check that exceeds its time limit, or whose process dies, is a fault of the verifier: that item, and only
that item, is `unknown` with reason `fault`. (A check that runs a candidate's program holds the candidate's
own time limit itself, and returns `incorrect` with reason `timeout`.)
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from verifiers.plugins import VerifierError
from verifiers.registry import Check, get, importable_path
from verifiers.types import Verdict
from verifiers.workers.cores import usable_cores
from verifiers.workers.worker import run_check

if TYPE_CHECKING:  # they import subprocess, ctypes and more, 20 ms that `import verifiers` need not pay
    from verifiers.workers.engine import Engine
    from verifiers.workers.process import Item
    from verifiers.workers.worker import Recipe

# Pairs pulled ahead of the verdicts, for each worker: two full chunks.
WINDOW = 256
# A check that holds its own time limit gets this much longer before its worker is killed: to end what it runs, and to
# replace a sandbox that broke.
OWN_LIMIT_GRACE = 15.0

Pair = tuple[str, Any]


def verify(name: str, completion: str, reference: Any, **options: Any) -> Verdict:
    """Check one completion in this process. It cannot be killed: use `verify_many` for model output."""
    check = get(name).bound(options)
    return _verify_here(check, completion, reference, options)


def verify_many(
    name: str,
    pairs: Iterable[Pair],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> list[Verdict]:
    """Return the verdicts of `(completion, reference)` pairs in their order. See `Pool`."""
    return list(verify_iter(name, pairs, workers=workers, timeout=timeout, **options))


def verify_iter(
    name: str,
    pairs: Iterable[Pair],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Iterator[Verdict]:
    """Yield the verdicts of `(completion, reference)` pairs in their order. See `Pool`.

    A wrong name or option fails here, not at the first verdict.
    """
    return _drain(Pool(name, workers=workers, timeout=timeout, **options), pairs)


async def averify_iter(
    name: str,
    pairs: Iterable[Pair] | AsyncIterable[Pair],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> AsyncIterator[Verdict]:
    """`verify_iter` for `async for`: the event loop goes on while workers check. See `Pool.averify_iter`."""
    with Pool(name, workers=workers, timeout=timeout, **options) as pool:
        async for verdict in pool.averify_iter(pairs):
            yield verdict


def _drain(pool: Pool, pairs: Iterable[Pair]) -> Iterator[Verdict]:
    with pool:
        yield from pool.verify_iter(pairs)


class Pool:
    """Warm worker processes for one verifier and one set of options, over any number of calls.

    `workers`: how many processes, by default one a core; 0 checks in this process and can kill nothing.
    `timeout`: seconds an item, by default the verifier's own. Processes start when the first pair needs them,
    die with this process, and are killed by `close`, which `with` and garbage collection call. Any thread may
    use a pool, several at once too; a forked child may not.
    """

    def __init__(self, name: str, *, workers: int | None = None, timeout: float | None = None, **options: Any) -> None:
        self.check = get(name).bound(options)
        self._options = options
        if workers is not None and workers < 0:
            raise VerifierError(f"workers must be 0 or more, not {workers}")
        if timeout is not None and not timeout > 0:
            raise VerifierError(f"timeout must be above 0 seconds, not {timeout}")
        if workers == 0 and timeout is not None and self.check.time_option is None:
            raise VerifierError("workers=0 checks in this process, where nothing can be killed: drop the timeout")
        self.workers = usable_cores() if workers is None else workers
        self.timeout = self._limit(timeout)
        self._engine: Engine | None = None
        if self.workers:
            from verifiers.workers.engine import Engine

            recipe = _recipe(self.check, self._options)
            self._engine = Engine(self.check, recipe, workers=self.workers, timeout=self.timeout)
            self._finalizer = weakref.finalize(self, self._engine.close)

    def _limit(self, timeout: float | None) -> float:
        """Return the seconds after which a worker is killed: later where the check itself holds the limit."""
        option = self.check.time_option
        if option is None:
            return self.check.timeout if timeout is None else timeout
        limit = float(self._options.get(option, self.check.timeout) if timeout is None else timeout)
        self._options = {**self._options, option: limit}
        return limit + OWN_LIMIT_GRACE

    def verify_iter(self, pairs: Iterable[Pair]) -> Iterator[Verdict]:
        """Yield verdicts in the order of `pairs`.

        Pairs are pulled ahead, at most a window of them; while the source computes the next one, the workers
        check those before it. Verdicts that are ready are yielded before the next pair is pulled.
        """
        if self._engine is None:
            for completion, reference in pairs:
                yield _verify_here(self.check, completion, reference, self._options)
            return
        limit = self.workers * WINDOW
        window: deque[Item] = deque()
        try:
            for completion, reference in pairs:
                window.append(self._engine.submit(completion, reference))
                while window and (window[0].verdict is not None or len(window) >= limit):
                    yield self._engine.wait(window.popleft())
            while window:
                yield self._engine.wait(window.popleft())
        finally:
            for item in window:
                item.is_cancelled = True

    async def averify_iter(self, pairs: Iterable[Pair] | AsyncIterable[Pair]) -> AsyncIterator[Verdict]:
        """Yield verdicts in the order of `pairs`, which may come asynchronously; as `verify_iter`, without blocking."""
        import asyncio

        limit = self.workers * WINDOW
        window: deque[Item] = deque()
        try:
            async for completion, reference in _asynchronous(pairs):
                if self._engine is None:
                    here = (self.check, completion, reference, self._options)
                    yield await asyncio.to_thread(_verify_here, *here)
                    continue
                window.append(self._engine.submit(completion, reference))
                while window and (window[0].verdict is not None or len(window) >= limit):
                    yield await self._awaited(window.popleft())
            while window:
                yield await self._awaited(window.popleft())
        finally:
            for item in window:
                item.is_cancelled = True

    async def _awaited(self, item: Item) -> Verdict:
        import asyncio

        assert self._engine is not None
        if item.verdict is None:  # a thread only for a verdict that is not there yet
            return await asyncio.to_thread(self._engine.wait, item)
        return item.verdict

    def close(self) -> None:
        if self._engine is not None:
            self._finalizer()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _asynchronous(pairs: Iterable[Pair] | AsyncIterable[Pair]) -> AsyncIterator[Pair]:
    if isinstance(pairs, AsyncIterable):
        async for pair in pairs:
            yield pair
    else:
        for pair in pairs:
            yield pair


def _verify_here(check: Check, completion: str, reference: Any, options: dict[str, Any]) -> Verdict:
    if not isinstance(completion, str):  # a caller without a type checker
        raise TypeError(f"a completion must be a str, not {type(completion).__name__}: {completion!r:.80}")
    verdict, message = run_check(check, completion, reference, options)
    if message is not None:
        import logging

        logging.getLogger("verifiers").warning("verifier %r failed, the verdict is unknown: %s", check.name, message)
    return verdict


def _recipe(check: Check, options: dict[str, Any]) -> Recipe:
    from verifiers.workers.worker import Recipe

    path = importable_path(check)
    return Recipe(
        name=check.name,
        version=check.version,
        threshold=check.threshold,
        options=options,
        path=path,
        shipped=None if path else _ship(check),
        sys_path=list(sys.path),
        parts=tuple(_recipe(part, {}) for part in check.parts),
    )


def _ship(check: Check) -> bytes:
    """Pickle a function that no other process can import, as those of a notebook, with what it uses of it."""
    from pickle import PicklingError

    try:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        shipped: bytes = cloudpickle.dumps(check.function)
    except (ImportError, TypeError, PicklingError) as error:  # this package alone, or a lock, a file, a generator, ...
        raise VerifierError(
            f"verifier {check.name!r} is defined in a notebook, a script or another function, and cannot be sent to "
            f"worker processes: {error}. Move it to a module and name it 'pkg.module:function', or check in this "
            f"process with workers=0 (no time limit there)."
        ) from None
    return shipped
