"""Shared memory in which a worker reports what it is doing and since when.

The parent reads them to hold a deadline per item although items travel in chunks: no message per item.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Generation, items started so far, monotonic time at which the last one started, generation again: bytes are
# written in this order, so a reader that catches a write half done sees two generations.
_LAYOUT = struct.Struct("<qqdq")
SIZE = _LAYOUT.size
# Loading a library takes no time from an item's limit, but may not take for ever either.
LOAD_LIMIT = 60.0


class Heartbeat:
    """Both ends of the shared bytes; time.monotonic is one clock for all processes of a machine."""

    def __init__(self, fd: int) -> None:
        self._bytes = mmap.mmap(fd, SIZE)
        self._generation = 0

    def _write(self, started: int, since: float) -> None:
        self._generation += 1
        _LAYOUT.pack_into(self._bytes, 0, self._generation, started, since, self._generation)

    def begin(self, started: int) -> None:
        self._write(started, time.monotonic())

    def shift(self, seconds: float) -> None:
        if (state := self.read()) is not None:
            self._write(state[0], state[1] + seconds)

    def read(self) -> tuple[int, float] | None:
        """Return (items started, since), or None in the middle of a write."""
        first, started, since, last = _LAYOUT.unpack(self._bytes[:SIZE])
        return (started, since) if first == last else None

    def close(self) -> None:
        self._bytes.close()


# Set in a worker process only: elsewhere no deadline runs.
_own: Heartbeat | None = None


def adopt(heartbeat: Heartbeat) -> None:
    global _own
    _own = heartbeat


@contextmanager
def uncounted() -> Iterator[None]:
    """Inside, an item's time limit stands still: a check wraps the import of a heavy library in this."""
    if _own is None:
        yield
        return
    began = time.monotonic()
    _own.shift(LOAD_LIMIT)
    try:
        yield
    finally:
        _own.shift(time.monotonic() - began - LOAD_LIMIT)


def renew() -> None:
    """Start the time limit of the current item again: a check calls this between the parts of a long item."""
    if _own is not None and (state := _own.read()) is not None:
        _own.begin(state[0])
