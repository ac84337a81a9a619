"""Verdicts from worker processes that can be killed: `verify_many`, `verify_iter`, `Pool`.

Where a check exceeds its time limit, or its process dies, the verifier is at fault: that item, and only that
item, is `unknown` with reason `fault`. (A check that runs programs keeps a time limit of its own for the
program, and returns `incorrect` with reason `timeout`.)
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

if TYPE_CHECKING:  # these import subprocess and more, which takes 20 ms that `import verifiers` saves
    from verifiers.workers.engine import Engine
    from verifiers.workers.process import Item
    from verifiers.workers.worker import Recipe

# Pairs pulled ahead of the verdicts, for each worker: two full chunks (`engine._MAX_CHUNK`).
_WINDOW = 256
# Seconds between the time limit that a check keeps itself and the kill of its worker: enough to end what the check
# runs, and to replace a sandbox that broke.
OWN_LIMIT_GRACE = 15.0

Pair = tuple[str, Any]


def verify(name: str, completion: str, reference: Any, **options: Any) -> Verdict:
    """Check one completion in this process, where nothing can end it: use `verify_many` for model output.

        >>> verifiers.verify("math", "The answer is 50%.", "0.5").status
        'correct'

    Args:
        name: A registered verifier, or "pkg.module:function".
        completion: The text to check.
        reference: The reference answer, of the type that the verifier takes.
        **options: Options of the verifier.

    Returns:
        The verdict; `unknown` with reason `fault` where the check raises.

    Raises:
        UnknownVerifier: No verifier has this name.
        UnknownOption: An option is misspelt, missing or has a value of the wrong type.
    """
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
    """Return the verdicts of many completions, checked in worker processes.

        >>> [v.status for v in verifiers.verify_many("math", [("x = 5", "5"), ("It is 6.", "5")])]
        ['correct', 'incorrect']

    Args:
        name: A registered verifier, or "pkg.module:function".
        pairs: (completion, reference) of each item.
        workers: Number of processes, by default one a core; 0 checks in this process.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Returns:
        One verdict a pair, in their order.

    Raises:
        UnknownVerifier: No verifier has this name.
        UnknownOption: An option is misspelt, missing or has a value of the wrong type.
        VerifierError: `workers` or `timeout` is out of range.
        WorkerLoadError: The worker processes cannot load the verifier.
    """
    return list(verify_iter(name, pairs, workers=workers, timeout=timeout, **options))


def verify_iter(
    name: str,
    pairs: Iterable[Pair],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Iterator[Verdict]:
    """Yield the verdicts of many completions as they come; arguments and errors are those of `verify_many`.

    A wrong name or option is raised by this call, not with the first verdict.

    Args:
        name: A registered verifier, or "pkg.module:function".
        pairs: (completion, reference) of each item; may be endless, for few are read ahead.
        workers: Number of processes, by default one a core; 0 checks in this process.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Returns:
        An iterator over one verdict a pair, in their order.
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
    """Yield the verdicts of many completions in an `async for`; the event loop is not blocked meanwhile.

    Args:
        name: A registered verifier, or "pkg.module:function".
        pairs: (completion, reference) of each item, from an iterable or an asynchronous one.
        workers: Number of processes, by default one a core; 0 checks in a thread of this process.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Yields:
        One verdict a pair, in their order.
    """
    with Pool(name, workers=workers, timeout=timeout, **options) as pool:
        async for verdict in pool.averify_iter(pairs):
            yield verdict


def _drain(pool: Pool, pairs: Iterable[Pair]) -> Iterator[Verdict]:
    with pool:
        yield from pool.verify_iter(pairs)


class Pool:
    """Worker processes for one verifier and one set of options, kept over any number of calls.

        >>> with verifiers.Pool("math", workers=4) as pool:
        ...     verdicts = list(pool.verify_iter(pairs))

    Processes start when the first pair needs them, die with this process, and are killed by `close`, which `with`
    and garbage collection call. Several threads may use a pool at once; a forked child may not.

    Args:
        name: A registered verifier, or "pkg.module:function".
        workers: Number of processes, by default one a core; 0 checks in this process, where nothing can be killed.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Raises:
        UnknownVerifier: No verifier has this name.
        UnknownOption: An option is misspelt, missing or has a value of the wrong type.
        VerifierError: `workers` or `timeout` is out of range, or the function cannot be sent to another process.
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
        """Return the seconds after which a worker is killed: later where the check keeps the time limit itself."""
        option = self.check.time_option
        if option is None:
            return self.check.timeout if timeout is None else timeout
        limit = float(self._options.get(option, self.check.timeout) if timeout is None else timeout)
        self._options = {**self._options, option: limit}
        return limit + OWN_LIMIT_GRACE

    def verify_iter(self, pairs: Iterable[Pair]) -> Iterator[Verdict]:
        """Yield one verdict a pair, in the order of `pairs`.

        At most 256 pairs a worker are read ahead, so that workers check while `pairs` computes the next one. Verdicts
        that are ready are yielded before the next pair is read.

        Args:
            pairs: (completion, reference) of each item.

        Raises:
            TypeError: A completion is not a str.
            WorkerLoadError: The worker processes cannot load the verifier.
            RuntimeError: The pool is closed, or belongs to the process that forked.
        """
        if self._engine is None:
            for completion, reference in pairs:
                yield _verify_here(self.check, completion, reference, self._options)
            return
        limit = self.workers * _WINDOW
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
        """Yield what `verify_iter` yields, without blocking the event loop; `pairs` may be asynchronous."""
        import asyncio

        limit = self.workers * _WINDOW
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
        if item.verdict is None:  # a thread only where there is something to wait for
            return await asyncio.to_thread(self._engine.wait, item)
        return item.verdict

    def close(self) -> None:
        """Kill the workers. Whoever waits for a verdict gets a RuntimeError."""
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
    if not isinstance(completion, str):
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
    """Pickle by value a function that no other process can import, such as one of a notebook."""
    from pickle import PicklingError

    try:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        shipped: bytes = cloudpickle.dumps(check.function)
    except (ImportError, TypeError, PicklingError) as error:  # no cloudpickle; or it uses a lock, a file, ...
        raise VerifierError(
            f"verifier {check.name!r} is defined in a notebook, a script or another function, and cannot be sent to "
            f"worker processes: {error}. Move it to a module and name it 'pkg.module:function', or check in this "
            f"process with workers=0 (no time limit there)."
        ) from None
    return shipped
