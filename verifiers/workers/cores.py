"""How many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Return the cores of this process: those of its affinity, as far as its container's share of time goes.

    The share is the smallest quota of its control group and of those above it (`cpu.max`, or `cpu.cfs_quota_us` in
    version 1). It is rounded down, and 1 at least.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for folder in _groups(cgroups, own) if (share := _share(folder)) is not None]
    return max(1, min([allowed, *(int(share) for share in shares)]))


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups that this process is in, up to the one that it sees as the root."""
    found = [cgroups, cgroups / "cpu"]
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        base = cgroups if not controllers else cgroups / "cpu" if "cpu" in controllers.split(",") else None
        parts = path.strip("/").split("/") if base is not None and path.strip("/") else []
        found += [base.joinpath(*parts[: i + 1]) for i in range(len(parts)) if base is not None]
    return found


def _share(folder: Path) -> float | None:
    """Return how many cores' time a control group may take; None without a limit."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    is_limit = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return int(quota) / int(period) if is_limit else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
