"""What a run ran on: the hardware and the versions that its figures depend on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED = (
    "star-rft",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "math-verify",
    "sympy",
    "duckdb",
)


def machine() -> dict[str, str]:
    """Return the device, threads, memory and system; nothing that names the machine or its owner."""
    import psutil
    import torch

    memory = psutil.virtual_memory().total / 2**30
    return {
        "device": _device(),
        "torch threads": str(torch.get_num_threads()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{_cpu()}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def _cpu() -> str:
    """Return the processor's name: Linux tells it in /proc, others through the platform module."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
