"""Client for a fleet of servers: limits, retries, load balancing and cancellation.

    jobs --one worker a place at an address--> the freest address --answer--> read --> (index, result)
                 ^                                         |
                 '------ again, elsewhere if possible <----'  a TransientError

An event loop in a thread of its own does the work, so that the caller is an ordinary iterator.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from star_rft.addresses import Key, require_address
from star_rft.engines.server.http import BEHIND, LONGEST_WAIT, MENDABLE, TransientError, problem_with, wait_asked
from star_rft.errors import RunFailure, UserError

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

T = TypeVar("T")
LONGEST_CONNECT = 10.0  # seconds; a server that is there accepts a connection at once, however busy it is
# Addresses for which the proxies of the environment are not used.
LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")
log = logging.getLogger("star_rft")


@dataclass(slots=True, eq=False)
class Address:
    """A server's address with its state.

    Attributes:
        url: Where it listens.
        under_way: Requests that it has not answered yet.
        absences: How many times in a row nobody was there; requests that fail at the same time count as one.
        rests_until: Not used before this time of the event loop, in seconds.
        away_since: When the last absence was noticed.
        admitted_at: When it was last looked at by `admit`.
        was_reached: It has answered at least once.
        is_admitted: `admit` has accepted it.
        refused_for: Why `admit` has not; it is then not used again.
        problem: The last fault at this address.
    """

    url: str
    under_way: int = 0
    absences: int = 0
    rests_until: float = 0.0
    away_since: float = 0.0
    admitted_at: float = 0.0
    was_reached: bool = False
    is_admitted: bool = False
    refused_for: str = ""
    problem: str = ""


class Fleet:
    """Sends requests to the servers at `urls`, each with at most `concurrency` requests under way.

    MENDABLE statuses, timeouts, lost connections and a TransientError of `read` are tried again up to `retries` times,
    at another address where there is one, after `backoff`, twice that, ... seconds plus up to `backoff` at random, or
    after what Retry-After says; then RunFailure is raised. An address where nobody listens is left alone for such times
    too, and a single request then tests whether it is back. Where no address was ever reached, and for any other
    refusal, UserError is raised at once.

    Args:
        urls: Addresses of servers that share the requests.
        key: Sent with every request.
        concurrency: Requests under way at each address.
        timeout: Seconds for one request.
        retries: Further tries of a request.
        backoff: Seconds before the first of them.
        advice: The end of a RunFailure's text.
        admit: `admit(address, client)` is awaited before an address is used, and again when its connections were lost.
            It returns why the address cannot be used, or "".
        on_absence: Called when nobody listens at an address; may raise.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key: Key,
        concurrency: int,
        timeout: float,
        retries: int,
        backoff: float,
        advice: str,
        admit: Callable[[Address, httpx.AsyncClient], Awaitable[str]] | None = None,
        on_absence: Callable[[], None] = lambda: None,
    ) -> None:
        if concurrency < 1 or retries < 0:
            raise UserError(f"concurrency {concurrency} must be at least 1 and retries {retries} at least 0")
        self.addresses = [Address(require_address(url), is_admitted=admit is None) for url in urls]
        self._key, self._concurrency, self._timeout = key, concurrency, timeout
        self._retries, self._backoff, self._advice = retries, backoff, advice
        self._admit, self._on_absence = admit, on_absence
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._streams: set[asyncio.Task[None]] = set()

    def ask(
        self,
        path: str,
        count: int,
        body: Callable[[int, Address], dict[str, Any]],
        read: Callable[[int, Address, httpx.Response], T],
    ) -> Iterator[tuple[int, T]]:
        """Post `count` bodies to `path`; yield each index with what `read` makes of its answer, as they come.

        `body` and `read` run in the fleet's thread. A caller that stops iterating cancels what is under way.
        """
        loop = self._opened()
        results: SimpleQueue[tuple[int, T] | asyncio.Task[None]] = SimpleQueue()

        async def start() -> asyncio.Task[None]:
            task = asyncio.create_task(self._all(path, count, body, read, results.put))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
            task.add_done_callback(results.put)
            return task

        task = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            while not isinstance(result := results.get(), asyncio.Task):
                yield result
            if result.cancelled():
                raise RuntimeError("the connection to the servers was closed")
            result.result()
        finally:
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(_ended([task]), loop).result()

    def close(self) -> None:
        """End what is under way and the thread; a later `ask` starts anew."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_ended([*self._streams]), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def _opened(self) -> asyncio.AbstractEventLoop:
        import httpx

        if self._loop is None:
            self._loop, self._changed = asyncio.new_event_loop(), asyncio.Event()
            self._thread = Thread(target=self._loop.run_forever, name="fleet", daemon=True)
            self._thread.start()
            self._tls = httpx.create_ssl_context()
        return self._loop

    def _client(self) -> httpx.AsyncClient:
        """Return a client for one worker: finding a free connection among those of all would take longer."""
        import httpx

        return httpx.AsyncClient(
            headers=self._key.headers,
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, LONGEST_CONNECT)),
            mounts=dict.fromkeys(LOOPBACK),
            verify=self._tls,
        )

    async def _all(
        self,
        path: str,
        count: int,
        body: Callable[[int, Address], dict[str, Any]],
        read: Callable[[int, Address, httpx.Response], T],
        put: Callable[[tuple[int, T]], None],
    ) -> None:
        jobs = iter(range(count))

        async def work() -> None:
            async with self._client() as client:
                for index in jobs:  # one iterator for all workers
                    put((index, await self._one(client, path, index, body, read)))

        most = min(count, self._concurrency * len(self.addresses))
        workers = [asyncio.create_task(work()) for _ in range(most)]
        try:
            await asyncio.gather(*workers)
        finally:
            await _ended(workers)

    async def _one(
        self,
        client: httpx.AsyncClient,
        path: str,
        index: int,
        body: Callable[[int, Address], dict[str, Any]],
        read: Callable[[int, Address, httpx.Response], T],
    ) -> T:
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        last: Address | None = None

        async def once() -> T:
            nonlocal last
            while True:
                async with self._place(avoid=last) as last:
                    if await self._is_admitted(last, client):
                        return read(index, last, await self._post(client, last, path, body(index, last)))

        tries = AsyncRetrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=self._wait,
            retry=retry_if_exception_type(TransientError),
            reraise=True,
        )
        try:
            return await tries(once)
        except TransientError as fault:
            raise self._failure(f"{last.url if last else ''} failed {self._retries + 1} times", fault) from None

    async def _post(
        self, client: httpx.AsyncClient, address: Address, path: str, body: dict[str, Any]
    ) -> httpx.Response:
        response = await reached(client.post(address.url + path, json=body), address, timeout=self._timeout)
        if response.is_success:
            return response
        problem = problem_with(response, self._key)
        if response.status_code in MENDABLE:
            raise TransientError(problem, is_lost=response.status_code in BEHIND, wait=wait_asked(response))
        raise UserError(f"{address.url}{path} refused a request: {problem}")

    async def _is_admitted(self, address: Address, client: httpx.AsyncClient) -> bool:
        if not address.is_admitted and self._admit is not None:
            address.refused_for = await self._admit(address, client)
            address.is_admitted = not address.refused_for
            address.admitted_at = asyncio.get_running_loop().time()
            if address.refused_for and any(not other.refused_for for other in self.addresses):
                log.warning(f"WARNING: {address.url} is not asked: it {address.refused_for}")
        return address.is_admitted

    @asynccontextmanager
    async def _place(self, *, avoid: Address | None) -> AsyncIterator[Address]:
        """Wait for a place at the freest address and hold it; record a fault there."""
        address = await self._free(avoid)
        address.under_way += 1
        began = asyncio.get_running_loop().time()
        try:
            yield address
            address.absences = 0
        except TransientError as fault:
            self._note(address, fault, began)
            raise
        finally:
            address.under_way -= 1
            self._changed.set()

    async def _free(self, avoid: Address | None) -> Address:
        while True:
            usable = [address for address in self.addresses if not address.refused_for]
            if not usable:
                raise UserError("; ".join(f"{a.url} {a.refused_for}" for a in self.addresses))
            now = asyncio.get_running_loop().time()
            awake = [a for a in usable if a.rests_until <= now]
            # A request that failed at `avoid` waits for a place elsewhere, where another address is known to answer.
            is_elsewhere = any(a is not avoid and not a.absences for a in awake)
            free = [a for a in awake if a.under_way < self._room(a) and not (a is avoid and is_elsewhere)]
            if free:
                return min(free, key=lambda a: a.under_way)
            self._changed.clear()
            ends = [a.rests_until - now for a in usable if a.rests_until > now]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(ends, default=None))

    def _room(self, address: Address) -> int:
        """Return how many requests an address may have: one until it is known to be there and the right one."""
        return self._concurrency if address.is_admitted and not address.absences else 1

    def _note(self, address: Address, fault: TransientError, began: float) -> None:
        """Record a fault, and until when the address is left alone; raise where no address is left to be tried."""
        now = asyncio.get_running_loop().time()
        address.problem = str(fault)
        if fault.wait is not None:
            address.rests_until = max(address.rests_until, now + fault.wait)
        if fault.is_lost and began >= address.admitted_at:
            address.is_admitted = self._admit is None
        if not fault.is_away:
            return
        self._on_absence()
        if began < address.away_since:  # the same absence, which meets every request that was under way
            return
        address.absences, address.away_since = address.absences + 1, now
        asked = [a for a in self.addresses if not a.refused_for]
        if all(a.absences and not a.was_reached for a in asked):
            away = "; ".join(f"{a.url} cannot be reached ({a.problem})" for a in asked)
            raise UserError(f"{away}: is the server running?")
        if all(a.absences > self._retries for a in asked):
            raise self._failure(f"{address.url} was away {address.absences} times", fault)
        rest = min(self._backoff * 2 ** (address.absences - 1), LONGEST_WAIT)
        address.rests_until = max(address.rests_until, now + rest)
        log.warning(f"WARNING: {address.url} is away ({fault}); it is tried again in {rest:.3g} s")

    def _failure(self, what: str, fault: TransientError) -> RunFailure:
        others = [f"{a.url}: {a.problem or a.refused_for}" for a in self.addresses if a.problem or a.refused_for]
        all_of_them = f" (last of each: {'; '.join(others)})" if len(self.addresses) > 1 else ""
        return RunFailure(f"{what}, the last time with: {fault}{all_of_them}; {self._advice}")

    def _wait(self, state: RetryCallState) -> float:
        """Return the seconds before the next try: what the server asked for, else twice the last, with jitter."""
        from tenacity import wait_exponential_jitter

        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, TransientError) and fault.wait is not None:
            return fault.wait
        return wait_exponential_jitter(multiplier=self._backoff, jitter=self._backoff, max=LONGEST_WAIT)(state)


async def reached(request: Awaitable[httpx.Response], address: Address, *, timeout: float) -> httpx.Response:
    """Await a response, whatever its status. Raises TransientError after `timeout` seconds, or without a connection."""
    import httpx

    try:
        async with asyncio.timeout(timeout):
            response = await request
    except TimeoutError:
        raise TransientError(f"no answer within {timeout:g} s") from None
    except httpx.TransportError as error:
        is_away = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        raise TransientError(f"{type(error).__name__} {error}".rstrip(), is_away=is_away, is_lost=True) from None
    address.was_reached = True
    return response


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
