"""The number of cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return the cores of this process's affinity, or fewer where its control group limits its processor time.

    The limit is the smallest quota of its group and the groups above (`cpu.max`, or `cpu.cfs_quota_us` in version 1),
    in cores, rounded down but at least 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for folder in _groups(cgroups, own) if (share := _share(folder)) is not None]
    return max(1, min([allowed, *(int(share) for share in shares)]))


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of the control groups of this process, up to the root that it sees."""
    # Inside a container the path of /proc/self/cgroup may lie outside what is mounted: the mount's root counts too.
    found = [cgroups, cgroups / "cpu"]
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)  # version 2: "0::/path"; version 1: "4:cpu,cpuacct:/path"
        base = cgroups if not controllers else cgroups / "cpu" if "cpu" in controllers.split(",") else None
        parts = path.strip("/").split("/") if base is not None and path.strip("/") else []
        found += [base.joinpath(*parts[: i + 1]) for i in range(len(parts)) if base is not None]
    return found


def _share(folder: Path) -> float | None:
    """Return the quota of a control group in cores; None without one."""
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
