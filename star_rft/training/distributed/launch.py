"""Launches a training in several processes by accelerate, watches it, and ends all of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from star_rft import processes
from star_rft.errors import RunFailure, TrainingError
from star_rft.files import write_json, write_table
from star_rft.models.spec import ModelSpec
from star_rft.progress import OnStep
from star_rft.training.options import FitReport, Say, TrainingOptions
from star_rft.training.registry import ObjectiveSpec
from star_rft.types import Example, Preference
from verifiers.workers.cores import usable_cores

# accelerate's configs in this package, by the names that `launch.config` takes.
CONFIGS = {name: Path(__file__).parent / "accelerate" / f"{name}.yaml" for name in ("fsdp2", "ddp")}

EVENTS, LOG, ITEMS, SPEC = "events.jsonl", "log.txt", "items.parquet", "spec.json"
POLL_SECONDS = 0.05
# How long processes may take to be gone after they were killed: they may sit in a write to a slow disk.
GONE_SECONDS = 60.0
TAIL_LINES = 15
SHORT = "; where the system did it, memory was short: see train.micro_batch_size, gradient_checkpointing, lora"
LAUNCHER_LINE = re.compile(r"[EW]\d{4} .*torch/distributed/")


@dataclass(frozen=True, slots=True)
class Launch:
    """`accelerate launch` with a config file, further arguments, and behind a command that starts it on each machine.

    Processes from which no step is heard for `stall` seconds are given up.
    """

    processes: int
    config: Path
    arguments: Sequence[str] = ()
    command: Sequence[str] = ()
    stall: float = 1800.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a launched process trains; it is written as JSON. The items are in a file of their own.

    `import_paths` are where this process imports from: an objective may be in a file of the working folder.
    """

    options: TrainingOptions
    model: ModelSpec
    out_dir: Path
    work_dir: Path
    objective: ObjectiveSpec | None
    import_paths: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read the job of a launched training's folder."""
        return TypeAdapter(cls).validate_json((folder / SPEC).read_text())


def config_file(name: str) -> Path:
    """Return accelerate's config of a name, or the file that it is; raise TrainingError where there is neither."""
    found = CONFIGS.get(name) or Path(name)
    if not found.is_file():
        raise TrainingError(f"launch.config: {name!r} is no file; give one of accelerate's, or {', '.join(CONFIGS)}")
    return found


def fit_launched(
    items: Sequence[Example] | Sequence[Preference],
    options: TrainingOptions,
    *,
    launch: Launch,
    objective: ObjectiveSpec | None = None,
    model: ModelSpec,
    out_dir: Path,
    work_dir: Path,
    on_step: OnStep | None = None,
    say: Say | None = None,
) -> FitReport:
    """Do what `fit` does, or with an objective what `fit_preferences` does, in processes of its own.

    What they read and write lies in `work_dir` with `.launch` added: it is kept with its log where the training fails,
    and removed where it succeeds. Raises what the function itself raises, and RunFailure for processes that die or
    write nothing for too long.
    """
    _check_gpus(launch, model.device)
    folder = work_dir.with_name(f"{work_dir.name}.launch")
    folder.mkdir(parents=True, exist_ok=True)
    if not processes.wait_for_ranks(folder, seconds=GONE_SECONDS):
        raise RunFailure(f"{folder}: processes of an earlier training are still at work there; end them first")
    for left in folder.glob("*.json*"):
        left.unlink()
    write_items(folder / ITEMS, items)
    job = Job(options, model, out_dir, work_dir, objective, tuple(os.path.abspath(path) for path in sys.path))
    write_json(folder / SPEC, TypeAdapter(Job).dump_python(job, mode="json"))
    with _started(launch, folder) as process:
        report = _follow(process, launch, folder, on_step=on_step, say=say)
    if report is None:
        raise _failure(folder, process.returncode)
    shutil.rmtree(folder, ignore_errors=True)
    return report


def command_of(launch: Launch, folder: Path) -> list[str]:
    """Return what is started; later arguments win over earlier ones and over the config file."""
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    ours = ["--config_file", str(launch.config), "--num_processes", str(launch.processes), "--main_process_port", "0"]
    child = ["-m", "star_rft.training.distributed.worker", str(folder.resolve())]
    return [*launch.command, *accelerate, *ours, *launch.arguments, *child]


@contextmanager
def _started(launch: Launch, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the processes, and see to it that they are gone when the block ends, however it ends."""
    with processes.holding(folder), (folder / LOG).open("wb") as log:
        # A session of its own: Ctrl-C is heard here alone, and nobody writes over the progress display.
        process = subprocess.Popen(
            command_of(launch, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(launch),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    processes.wait_for_ranks(folder, seconds=GONE_SECONDS)


def _environment(launch: Launch) -> dict[str, str]:
    """Return this process's environment, the cores shared out, and `star_rft` found where it was found here."""
    root = str(Path(__file__).parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(max(1, usable_cores() // launch.processes))
    # PYTHONSAFEPATH: a file of the working folder takes no library's name, as it cannot in this process either.
    ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return {"OMP_NUM_THREADS": threads, **os.environ, **ours}


def _follow(
    process: subprocess.Popen[bytes], launch: Launch, folder: Path, *, on_step: OnStep | None, say: Say | None
) -> FitReport | None:
    """Pass on what rank 0 tells until the processes have ended; return its report, None where there is none."""
    heard, read, report = time.monotonic(), 0, None
    while True:
        has_ended = process.poll() is not None
        events, read = _events(folder / EVENTS, read)
        for event in events:
            heard = time.monotonic()
            if "step" in event and on_step is not None:
                on_step(*event["step"])
            if "say" in event and say is not None:
                say(event["say"])
            if "report" in event:
                report = FitReport(**event["report"])
        if has_ended:
            return report
        if time.monotonic() - heard > launch.stall:
            raise RunFailure(
                f"training: nothing was heard from its processes for {launch.stall:.0f} s (launch.stall); "
                f"they were ended{_tail(folder)}"
            )
        time.sleep(POLL_SECONDS)


def _events(path: Path, start: int) -> tuple[list[Mapping[str, Any]], int]:
    """Return the whole lines of a file behind a byte, and the byte behind them."""
    if not path.exists():
        return [], start
    with path.open("rb") as stream:
        stream.seek(start)
        data = stream.read()
    end = data.rfind(b"\n") + 1
    return [json.loads(line) for line in data[:end].splitlines()], start + end


def _failure(folder: Path, status: int) -> Exception:
    """Return what to raise for processes that ended without a report: who was killed, who failed first, or the log.

    Where one is killed the others fail too, and all of them note it.
    """
    errors = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    for error in errors:
        if error["is_user_error"]:
            return TrainingError(error["text"])
    log = (folder / LOG).read_text(errors="replace")
    killed = [name for name in re.findall(r"Signal \d+ \((SIG\w+)\) received", log) if name != "SIGTERM"]
    if killed or (status < 0 and not errors):
        name = killed[0] if killed else signal.Signals(-status).name
        return RunFailure(f"training: a process was killed ({name}){SHORT if name == 'SIGKILL' else ''}{_tail(folder)}")
    if errors:
        first = min(errors, key=lambda error: error["time"])
        return RunFailure(f"training: process {first['rank']} failed: {first['text']}{_tail(folder)}")
    return RunFailure(f"training: its processes ended with status {status}{_tail(folder)}")


def _tail(folder: Path) -> str:
    """Return the last lines that the processes themselves wrote; behind them torch's launcher sums up at length."""
    lines = [line for line in (folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
    end = next((i for i, line in enumerate(lines) if LAUNCHER_LINE.match(line)), len(lines))
    kept = (lines[:end] or lines)[-TAIL_LINES:]
    return f". The end of {folder / LOG}:\n" + "\n".join(kept) if kept else f". {folder / LOG} is empty"


def _check_gpus(launch: Launch, device: str) -> None:
    """Raise TrainingError for more processes than GPUs, where there are GPUs and all processes run here."""
    if device == "cpu" or launch.command or "--num_machines" in launch.arguments:
        return
    import torch

    gpus = torch.cuda.device_count()
    if 0 < gpus < launch.processes:
        raise TrainingError(
            f"launch.processes is {launch.processes}, but this machine has {gpus} GPUs and each process takes one: "
            f"set launch.processes={gpus}, or model.device=cpu"
        )


_IDS = pa.list_(pa.int32())
_EXAMPLES = pa.schema([("prompt_ids", _IDS), ("completion_ids", _IDS), ("weight", pa.float64())])
_PREFERENCES = pa.schema([("prompt_ids", _IDS), ("completion_ids", pa.list_(_IDS)), ("scores", pa.list_(pa.float64()))])


def write_items(path: Path, items: Sequence[Example] | Sequence[Preference]) -> None:
    """Write what is trained on as Parquet, for the launched processes."""
    schema = _PREFERENCES if items and isinstance(items[0], Preference) else _EXAMPLES
    write_table(path, pa.Table.from_pylist([asdict(item) for item in items], schema=schema))


def read_examples(path: Path) -> list[Example]:
    """Read the examples that `write_items` wrote."""
    rows = pq.read_table(path, schema=_EXAMPLES).to_pylist()
    return [Example(tuple(row["prompt_ids"]), tuple(row["completion_ids"]), row["weight"]) for row in rows]


def read_preferences(path: Path) -> list[Preference]:
    """Read the preferences that `write_items` wrote."""
    rows = pq.read_table(path, schema=_PREFERENCES).to_pylist()
    return [
        Preference(tuple(row["prompt_ids"]), tuple(tuple(ids) for ids in row["completion_ids"]), tuple(row["scores"]))
        for row in rows
    ]
