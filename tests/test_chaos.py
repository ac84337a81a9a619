"""The quickstart under fire: killed, stopped, starved of disk, its newest part corrupted, at random moments.

Whatever happens, the same command goes on, and in the end the run is what an undisturbed one is. `STAR_RFT_CHAOS_SEED`
chooses other moments; what happened when is printed (`pytest -m slow -s tests/test_chaos.py`).
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from star_rft.runs.folder import RunFolder
from star_rft.runs.status import status_of
from tests.small_runs import command, environment, outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

FAULTS = 50
ROUNDS = 2
# Units of seconds: a life that ends after some of them has got on.
SETTINGS = [
    f"rounds={ROUNDS}",
    "sample.unit=192",
    "train.save_steps=3",
    "data.train.options.n=160",
    "data.dev.options.n=60",
    "verifier.workers=2",
]
DISK_MB = 48  # of the file system that a run may fill: a run takes less


@dataclass(slots=True)
class Chaos:
    """One run folder, and what was done to it when."""

    run: Path
    rng: random.Random
    told: list[str] = field(default_factory=list)

    def note(self, fault: str) -> None:
        found = status_of(RunFolder(self.run), rounds=ROUNDS)
        self.told.append(f"{fault} at {found.stage}, round {found.round}, unit {found.done} of {found.planned}")


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Say in a few lines in what two outcomes differ."""
    lines = []
    for name, rows in expected.items():
        if found[name] != rows:
            pairs = [(a, b) for a, b in zip(found[name], rows, strict=False) if a != b]
            lines.append(f"{name}: {len(found[name])} and {len(rows)}, {len(pairs)} differ, such as {pairs[:2]}")
    return lines


def start(run: Path) -> subprocess.Popen[str]:
    """Start the run, or go on with it. Root has no power over permissions in it, as no user has."""
    bare = command("run", "quickstart", *SETTINGS, f"run_dir={run}", "--quiet")
    powers = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []
    return subprocess.Popen(
        [*drop, *bare], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def kill_the_run(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    process.kill()


def ask_it_to_stop(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    process.send_signal(chaos.rng.choice([signal.SIGTERM, signal.SIGINT]))


def kill_its_verifiers(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    for child in children(process):
        child.kill()


def stop_its_verifiers(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    for child in children(process):
        child.suspend()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def fill_the_disk(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    ballast = chaos.run.parent / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(1 << 16))
        except OSError:
            pass
    ended_by_itself(process, ("the disk is full", "the disk took no more"))
    ballast.unlink()


def make_it_read_only(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    folders = [path for path in [chaos.run, *chaos.run.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    manifest = chaos.run / "ledger" / "manifest"
    if manifest.exists():
        manifest.chmod(0o444)
    ended_by_itself(process, ("cannot be written",))
    for folder in folders:
        folder.chmod(0o755)
    if manifest.exists():
        manifest.chmod(0o644)


def corrupt_the_newest_part(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    parts = sorted(chaos.run.glob("ledger/*/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if parts:
        data = bytearray(parts[-1].read_bytes())
        data[chaos.rng.randrange(len(data))] ^= 255
        parts[-1].write_bytes(bytes(data[: chaos.rng.choice([len(data), len(data) // 2])]))


def start_a_second_one(chaos: Chaos, process: subprocess.Popen[str]) -> None:
    second = start(chaos.run)
    _, errors = second.communicate()
    if process.poll() is None:
        assert second.returncode == 2
        assert "another process is working on this run" in errors


def ended_by_itself(process: subprocess.Popen[str], reasons: tuple[str, ...]) -> None:
    """Wait until a run has met its fault; it says which in a line, unless it was done before it noticed."""
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # it needed nothing of what it could not have
        process.kill()
        process.communicate()
        return
    assert "Traceback" not in errors, errors
    assert process.returncode == 0 or any(reason in errors for reason in reasons), errors


Fault = Callable[[Chaos, subprocess.Popen[str]], None]
LIKELY: dict[Fault, int] = {
    kill_the_run: 5,
    ask_it_to_stop: 2,
    kill_its_verifiers: 3,
    stop_its_verifiers: 2,
    fill_the_disk: 2,
    make_it_read_only: 2,
    corrupt_the_newest_part: 3,
    start_a_second_one: 1,
}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, which can be filled without harm."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a file system that can be filled needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def live_and_die(chaos: Chaos, faults: list[Fault]) -> bool:
    """Start the run and let a fault or two come over it; say whether it got to its end all the same."""
    process = start(chaos.run)
    while process.poll() is None and faults:
        try:
            process.wait(timeout=chaos.rng.uniform(2.0, 14.0))
            break
        except subprocess.TimeoutExpired:
            fault = faults.pop()
            chaos.note(fault.__name__)
            fault(chaos, process)
    _, errors = process.communicate()
    assert "Traceback" not in (errors or ""), errors
    return process.returncode == 0


def test_fifty_faults_in_all_stages_change_nothing(tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("STAR_RFT_CHAOS_SEED", "0")))
    with start(tmp_path / "undisturbed") as process:
        process.communicate()
        assert process.returncode == 0
    expected = outcome(tmp_path / "undisturbed")
    faults = [fault for fault, weight in LIKELY.items() for _ in range(-(-FAULTS * weight // sum(LIKELY.values())))]
    rng.shuffle(faults)
    count, told, began = len(faults), list[str](), time.monotonic()
    runs = 0
    while faults:
        with small_disk(tmp_path / f"disk-{runs}") as disk:
            chaos = Chaos(disk / "run", rng)
            while not live_and_die(chaos, faults):
                pass
            assert differences(outcome(chaos.run), expected) == [], chaos.told
            told += chaos.told
            shutil.rmtree(chaos.run)
        runs += 1
    stages = Counter(re.findall(r" at (\w+)", "\n".join(told)))
    print(f"\n{count} faults over {runs} runs in {time.monotonic() - began:.0f} s, at {dict(stages)}", *told, sep="\n")
    assert len(told) == count >= FAULTS
    assert {"sampling", "training", "evaluating"} <= set(stages)
