"""Assigns GPUs to engines, and waits until their memory is free again. Nothing here loads CUDA."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from star_rft.errors import RunFailure, UserError

KEPT = 0.1  # of what the engines had taken: others use a GPU too, and a driver frees in its own time
FREED_WITHIN = 20.0  # seconds

Share = tuple[str, ...] | None  # names of GPUs as CUDA_VISIBLE_DEVICES has them; None where vLLM sees all there is


def shares(engines: int, each: int, environment: Mapping[str, str]) -> list[Share]:
    """Return the GPUs of each engine: a part of the visible ones; None for each where there is one, or no GPU."""
    if engines == 1:
        return [None]
    visible = _visible(environment)
    if not visible:
        return [None] * engines
    if len(visible) < engines * each:
        raise UserError(
            f"vllm.data_parallel={engines} engines of vllm.tensor_parallel={each} GPUs need {engines * each} GPUs, "
            f"and this process sees {len(visible)}: lower one of them"
        )
    return [tuple(visible[start : start + each]) for start in range(0, engines * each, each)]


def _visible(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that CUDA would show, by the names that CUDA_VISIBLE_DEVICES takes."""
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return list(_memory_by_gpu())
    names = [name.strip() for name in asked.split(",") if name.strip()]
    return [] if names == ["-1"] else names


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """The MiB in use of the engines' GPUs, before they started and with them; empty without GPUs.

    Other GPUs are not looked at: on a node of a cluster engines of other actors start and end at the same time.
    """

    before: Mapping[str, int] = field(default_factory=dict)
    during: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def used_now(cls, gpus: Sequence[Share], each: int, environment: Mapping[str, str]) -> GpuMemory:
        """Look before the engines start, of which each takes `each` GPUs: its share, or the first that are visible."""
        names = [name for share in gpus for name in share or _visible(environment)[:each]]
        return cls(_memory_by_gpu(names))

    def with_engines(self) -> GpuMemory:
        """Return this with the memory in use now, when the engines have loaded their model."""
        return replace(self, during=_memory_by_gpu(list(self.before)))

    def require_freed(self) -> None:
        """Raise RunFailure if a GPU does not get back what the engines had taken of it."""
        deadline = time.monotonic() + FREED_WITHIN
        while kept := self.kept(_memory_by_gpu(list(self.before))):
            if time.monotonic() > deadline:
                text = ", ".join(f"GPU {gpu}: {mib} MiB" for gpu, mib in kept.items())
                raise RunFailure(f"the vLLM engine is closed, but memory that it had taken is still in use: {text}")
            time.sleep(0.5)

    def kept(self, now: Mapping[str, int]) -> dict[str, int]:
        """Return the MiB by GPU that are in use now and were not before, where that is much of what was taken."""
        taken = {gpu: self.during[gpu] - used for gpu, used in self.before.items() if gpu in self.during}
        return {
            gpu: more
            for gpu, mib in taken.items()
            if mib > 0 and (more := now.get(gpu, 0) - self.before[gpu]) > KEPT * mib
        }


def _memory_by_gpu(names: Sequence[str] | None = None) -> dict[str, int]:
    """Return the MiB in use by GPU, of those named or of all by index; empty where there is no NVIDIA driver."""
    command = shutil.which("nvidia-smi")
    if command is None or names == []:
        return {}
    found: dict[str, int] = {}
    for name in names if names is not None else [None]:
        query = [command, "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
        try:
            one = [*query, "-i", name] if name is not None else query
            done = subprocess.run(one, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        rows = [line.split(",") for line in done.stdout.splitlines()] if done.returncode == 0 else []
        found |= {name or index.strip(): int(used) for index, used in rows if used.strip().isdecimal()}
    return found
