"""Process groups: an engine starts processes of its own, and all of them must go with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import psutil

from star_rft.types import RunFailure

GONE_WITHIN = 20.0  # seconds after SIGKILL; only a process inside a broken driver takes longer


def members(group: int) -> list[int]:
    """Return the processes of a group that still run; a zombie, which nobody has waited for, holds nothing."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_groups(groups: Sequence[int]) -> None:
    """Kill every process of the groups and wait until none is left; RunFailure if one stays."""
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + GONE_WITHIN
    while left := [pid for group in groups for pid in members(group)]:
        if time.monotonic() > deadline:
            raise RunFailure(f"processes {left} of an engine that was closed cannot be killed: what they hold is lost")
        time.sleep(0.05)
