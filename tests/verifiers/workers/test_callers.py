"""From where one may ask for verdicts: an event loop, threads, child processes, long streams."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import resource
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import verifiers

OBEY = "tests.verifiers.sample_checks:obey"


def pairs_of(count: int) -> list[tuple[str, str]]:
    return [(str(i), str(i if i % 3 else -1)) for i in range(count)]


def is_in_order(verdicts: list[verifiers.Verdict]) -> bool:
    return [v.is_correct for v in verdicts] == [bool(i % 3) for i in range(len(verdicts))]


def test_verdicts_come_from_a_thread_of_an_event_loop() -> None:
    async def main() -> list[verifiers.Verdict]:
        return await asyncio.to_thread(verifiers.verify_many, OBEY, pairs_of(200), workers=1)

    assert is_in_order(asyncio.run(main()))


def test_verify_many_works_inside_a_running_event_loop() -> None:
    async def main() -> list[verifiers.Verdict]:
        return verifiers.verify_many(OBEY, pairs_of(200), workers=1)

    assert is_in_order(asyncio.run(main()))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_async_stream_keeps_the_order_and_leaves_the_loop_free(workers: int) -> None:
    async def main() -> tuple[list[verifiers.Verdict], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        other = asyncio.create_task(tick())
        stream = verifiers.averify_iter(OBEY, pairs_of(20), workers=workers, seconds=0.02)
        verdicts = [verdict async for verdict in stream]
        other.cancel()
        return verdicts, ticks

    verdicts, ticks = asyncio.run(main())
    assert len(verdicts) == 20
    assert is_in_order(verdicts)
    assert ticks >= 5


def test_an_async_source_is_checked_while_it_waits() -> None:
    async def source() -> AsyncIterator[tuple[str, str]]:
        for pair in pairs_of(30):
            await asyncio.sleep(0.001)
            yield pair

    async def main() -> list[list[verifiers.Verdict]]:
        with verifiers.Pool(OBEY, workers=1) as pool:

            async def one() -> list[verifiers.Verdict]:
                return [verdict async for verdict in pool.averify_iter(source())]

            return await asyncio.gather(*(one() for _ in range(4)))

    assert all(is_in_order(verdicts) and len(verdicts) == 30 for verdicts in asyncio.run(main()))


def test_a_hang_does_not_stop_the_event_loop() -> None:
    async def main() -> list[str]:
        stream = verifiers.averify_iter(OBEY, [("a", "a"), ("hang", "a"), ("a", "a")], workers=1, timeout=0.4)
        return [verdict.reason async for verdict in stream]

    assert asyncio.run(main()) == ["match", "fault", "match"]


def test_a_wrong_name_fails_in_an_async_stream_too() -> None:
    async def main() -> None:
        async for _ in verifiers.averify_iter("maht", []):
            pass

    with pytest.raises(verifiers.UnknownVerifier, match="did you mean 'math'"):
        asyncio.run(main())


def test_several_threads_may_ask_at_once() -> None:
    results: dict[int, bool] = {}

    def work(thread: int) -> None:
        results[thread] = is_in_order(verifiers.verify_many(OBEY, pairs_of(300), workers=1))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(3), True)


def in_child(connection: Any) -> None:
    verdicts = verifiers.verify_many(OBEY, [*pairs_of(50), ("die", "a"), ("a", "a")], workers=1)
    connection.send([(v.status, v.reason) for v in verdicts])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_process_has_workers_of_its_own(method: str) -> None:
    here = [(v.status, v.reason) for v in verifiers.verify_many(OBEY, pairs_of(50), workers=0)]
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(theirs,))  # type: ignore[attr-defined]
    child.start()
    assert ours.poll(60)
    assert ours.recv() == [*here, ("unknown", "fault"), ("correct", "match")]
    child.join(10)
    assert child.exitcode == 0


@pytest.mark.full
def test_a_long_stream_takes_no_more_memory_than_its_window() -> None:
    ahead: list[int] = []
    pulled = itertools.count()

    def source() -> Iterator[tuple[str, str]]:
        for _ in range(200_000):
            yield "#### 18 " + "x" * 1000, str(next(pulled) % 50)

    def memory() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = 0
    verdicts = verifiers.verify_iter("tests.verifiers.sample_checks:says_correct", source(), workers=2)
    for done, verdict in enumerate(verdicts):
        assert verdict.is_correct
        if done == 20_000:
            before = memory()
        if done % 1000 == 0:
            ahead.append(int(repr(pulled)[6:-1]) - done)
    assert max(ahead) <= 2 * 256 + 1
    assert memory() - before < 20_000  # KiB; all pairs together would take 200,000
