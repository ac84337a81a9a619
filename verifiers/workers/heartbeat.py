"""Shared memory in which a worker reports which item it checks and since when.

By it the parent keeps a time limit for each item without a message an item, although items are sent in chunks.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Generation, items started so far, monotonic time at which the last one started, generation again. Bytes are
# written in this order, so a reader in the middle of a write sees two different generations.
_LAYOUT = struct.Struct("<qqdq")
SIZE = _LAYOUT.size
# Seconds. The time to import a library does not count against an item's limit, but has this limit of its own.
LOAD_LIMIT = 60.0


class Heartbeat:
    """The shared bytes, as the worker writes and the parent reads them.

    Times are of time.monotonic, which is the same clock in all processes of a machine.
    """

    def __init__(self, fd: int) -> None:
        self._bytes = mmap.mmap(fd, SIZE)
        self._generation = 0

    def _write(self, started: int, since: float) -> None:
        self._generation += 1
        _LAYOUT.pack_into(self._bytes, 0, self._generation, started, since, self._generation)

    def begin(self, started: int) -> None:
        """Report that the item with this number, counted from 1, starts now."""
        self._write(started, time.monotonic())

    def shift(self, seconds: float) -> None:
        """Move the start of the current item later, which extends its time limit."""
        if (state := self.read()) is not None:
            self._write(state[0], state[1] + seconds)

    def read(self) -> tuple[int, float] | None:
        """Return (items started, start of the last one), or None in the middle of a write."""
        first, started, since, last = _LAYOUT.unpack(self._bytes[:SIZE])
        return (started, since) if first == last else None

    def close(self) -> None:
        """Unmap the memory."""
        self._bytes.close()


# Set in a worker process only; elsewhere items have no time limit.
_own: Heartbeat | None = None


def adopt(heartbeat: Heartbeat) -> None:
    """Make a heartbeat the one that `uncounted` and `renew` of this process write."""
    global _own
    _own = heartbeat


@contextmanager
def uncounted() -> Iterator[None]:
    """Stop the clock of the current item's time limit, for the import of a heavy library."""
    if _own is None:
        yield
        return
    # The start moves ahead by the whole limit of the import, and afterwards back to what the import really took.
    began = time.monotonic()
    _own.shift(LOAD_LIMIT)
    try:
        yield
    finally:
        _own.shift(time.monotonic() - began - LOAD_LIMIT)


def renew() -> None:
    """Restart the time limit of the current item: a check calls this between the parts of a long item."""
    if _own is not None and (state := _own.read()) is not None:
        _own.begin(state[0])
