"""The machine and the installation: hardware, versions of libraries, and the resources that this process may use."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import NamedTuple

from verifiers.workers.cores import usable_cores

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
    """Return device, torch threads, memory and system as text; nothing that identifies the machine or its owner."""
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
    found = {name: installed(name) for name in RECORDED}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text is not None}}


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return f"{_cpu()}, {usable_cores()} cores"


def _cpu() -> str:
    """Return the name of the processor, from /proc/cpuinfo on Linux, else from the module `platform`."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


DISTRIBUTION = "star-rft"
NETWORK_SECONDS = 2.0


class Torch(NamedTuple):
    """What torch reports: its version, the CUDA it is built for, and (name, free bytes, total bytes) of each GPU."""

    version: str
    cuda: str | None
    gpus: Sequence[tuple[str, int, int]]
    has_mps: bool


def torch_build() -> tuple[Torch | None, str]:
    """Import torch and return what it reports; None, with the reason, where it cannot be imported."""
    if importlib.util.find_spec("torch") is None:
        return None, "torch is not installed"
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it was built against is missing
        return None, f"torch cannot be imported: {error}"
    names = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    gpus = [(torch.cuda.get_device_name(i), *torch.cuda.mem_get_info(i)) for i in names]
    return Torch(torch.__version__, torch.version.cuda, gpus, torch.backends.mps.is_available()), ""


def torch_backends() -> list[str]:
    """Return the backends of torch.distributed that this torch is built with: `nccl`, `gloo`; none without torch."""
    if torch_build()[0] is None:
        return []
    from torch import distributed

    if not distributed.is_available():
        return []
    there = {"nccl": distributed.is_nccl_available(), "gloo": distributed.is_gloo_available()}
    return [name for name, is_there in there.items() if is_there]


def nvidia_driver() -> str | None:
    """Return the newest version of CUDA that the NVIDIA driver supports, by nvidia-smi; None without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        done = subprocess.run([command], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"CUDA Version:\s*(\d+\.\d+)", done.stdout)
    return match[1] if done.returncode == 0 and match else None


def usable_memory() -> tuple[int, int]:
    """Return (free, total) bytes of memory; within the limit of the control group, where there is one."""
    import psutil

    machine = psutil.virtual_memory()
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if not limit.isdecimal() or not used.isdecimal():
        return machine.available, machine.total
    # File pages that were not used lately count as used, and are given up when memory is short.
    found = re.search(r"^inactive_file (\d+)$", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    free = int(limit) - int(used) + (int(found[1]) if found else 0)
    return min(machine.available, free), min(machine.total, int(limit))


def is_writable(folder: Path) -> bool:
    """Return whether a file can be created in a folder. It is tried, as permissions do not show a read-only disk."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes of the disk that holds a folder; None where there is no such folder."""
    return shutil.disk_usage(folder).free if folder.is_dir() else None


def requirements(pyproject: Path | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """Return the required packages, and those of each extra by its name, as requirements with version ranges.

    They are read from pyproject.toml where star-rft runs from its source tree, else from the installed package.
    """
    path = pyproject or Path(__file__).parents[2] / "pyproject.toml"
    if path.is_file():
        import tomllib

        project = tomllib.loads(path.read_text())["project"]
        if project["name"] == DISTRIBUTION:
            return project["dependencies"], project["optional-dependencies"]
    from packaging.requirements import Requirement

    found = metadata(DISTRIBUTION)
    needed: list[str] = []
    extras: dict[str, list[str]] = {name: [] for name in found.get_all("Provides-Extra") or []}
    for text in found.get_all("Requires-Dist") or []:
        marker = Requirement(text).marker
        name = next((extra for extra in extras if marker is not None and f'"{extra}"' in str(marker)), None)
        (needed if name is None else extras[name]).append(text)
    return needed, extras


def installed(name: str) -> str | None:
    """Return the version of an installed distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pip_command(executable: str, pip: str | None) -> str:
    """Return the command of pip for an interpreter: `pip` if the first one on the path is in its folder."""
    if pip is not None and Path(pip).parent == Path(executable).parent:
        return "pip"
    is_below = Path(executable).is_relative_to(Path.cwd())
    return f"{os.path.relpath(executable) if is_below else executable} -m pip"


def cache_folder() -> Path:
    """Return the folder in which Hugging Face keeps models and data sets."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def reaches_hub(environment: Mapping[str, str], seconds: float = NETWORK_SECONDS) -> bool:
    """Return whether the Hugging Face hub, or the proxy in front of it, accepts a connection in time.

    The connection is tried in a thread, as the look-up of a name may hang longer than any timeout of a socket.
    """
    import socket
    from threading import Thread
    from urllib.parse import urlsplit

    proxy = environment.get("HTTPS_PROXY") or environment.get("https_proxy")
    address = urlsplit(proxy or environment.get("HF_ENDPOINT") or "https://huggingface.co")
    place = (address.hostname or "huggingface.co", address.port or (80 if address.scheme == "http" else 443))
    taken: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection(place, timeout=seconds).close()
            taken.append(True)
        except OSError:
            pass

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(taken)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
