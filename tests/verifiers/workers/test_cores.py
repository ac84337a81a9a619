"""How many cores a process may use, in control groups that are laid out here as the kernel lays them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verifiers.workers.cores import usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """A process whose affinity allows eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return 8


def put(folder: Path, place: str, text: str) -> None:
    path = folder / "groups" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000"}, 8),
        ("0::/user/job\n", {"user/job/cpu.max": "300000 100000"}, 3),
        ("0::/user/job\n", {"user/cpu.max": "200000 100000", "user/job/cpu.max": "max 100000"}, 2),
        ("0::/user/job\n", {"user/cpu.max": "500000 100000", "user/job/cpu.max": "400000 100000"}, 4),
        ("3:cpu,cpuacct:/job\n", {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("4:memory:/job\n", {"cpu/job/cpu.cfs_quota_us": "100000", "cpu/job/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_containers_share_of_time_limits_the_cores(
    cores: int, tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "own").write_text(own)
    for place, text in files.items():
        put(tmp_path, place, text)
    assert usable_cores(tmp_path / "groups", tmp_path / "own") == expected


def test_without_control_groups_the_affinity_counts(cores: int, tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "none") == cores


def test_this_process_may_use_at_least_one_core() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
