"""Rebuilds the viewer's index in the background when the run has grown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from star_rft.viewer.index import Index, stamp_of

# The largest share of the time that reading a growing run again may take.
SHARE_OF_READING, LEAST_SECONDS = 0.1, 2.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Shelf:
    """Holds the newest index. `make` reads the run folder; it took `seconds` the last time."""

    run_dir: Path
    make: Callable[[], Index]
    index: Index
    seconds: float = 0.0
    _read_at: float = field(default_factory=time.monotonic)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def current(self) -> tuple[Index, bool]:
        """Return the index, and whether the run has grown since; if so it is read again, now or on a later call."""
        index = self.index
        if stamp_of(self.run_dir) == index.stamp:
            return index, False
        wait = max(LEAST_SECONDS, self.seconds / SHARE_OF_READING)
        if time.monotonic() - self._read_at > wait and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read, daemon=True).start()
        return index, True

    def _read(self) -> None:
        import duckdb

        began = time.monotonic()
        try:
            self.index = self.make()
        except (OSError, ValueError, duckdb.Error) as error:
            logger.warning("the run has grown and could not be read again: %s", error)
        finally:
            self._read_at = time.monotonic()
            self.seconds = self._read_at - began
            self._reading.release()
