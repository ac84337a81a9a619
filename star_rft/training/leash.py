"""Processes of a training end when whoever started them does, however that ends, and nobody is left behind unseen.

Two files of one folder carry the locks, which the kernel drops when their holder dies: `leash` is held by the process
that started the training, and `ranks` by all that train, together. They hold where `flock` does: on one machine, and
on shared file systems that pass it on (NFS 4, Lustre with `flock`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep alive what is tied to this folder; when the block ends it dies within a second."""
    with (folder / "leash").open("w") as leash:
        fcntl.flock(leash, fcntl.LOCK_EX)
        yield


def tie(folder: Path) -> None:
    """Have this process killed when its parent dies, or when nobody holds the folder any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    ranks, leash = ((folder / name).open() for name in ("ranks", "leash"))
    fcntl.flock(ranks, fcntl.LOCK_SH)

    def watch() -> None:
        while ranks and _is_held(leash.fileno()):  # `ranks` stays open, and so locked, as long as this thread
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=watch, name="leash", daemon=True).start()


def wait_for_ranks(folder: Path, *, seconds: float) -> bool:
    """Return whether within so many seconds nobody trains any more in this folder."""
    end = time.monotonic() + seconds
    with (folder / "ranks").open("w") as ranks:
        while True:
            try:
                fcntl.flock(ranks, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
            time.sleep(0.05)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
