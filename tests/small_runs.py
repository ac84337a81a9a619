"""Small whole runs, of the shipped tiny model on a handful of built-in problems, and the commands that make them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from star_rft.cli import main
from star_rft.cli.interrupts import SIGNALS, stop
from star_rft.ledger import Ledger

MINIATURE: dict[str, Any] = {
    "name": "miniature",
    "rounds": 2,
    "model": {"name": "tiny"},
    "data": {
        "train": {"source": "word_problems", "options": {"n": 16, "seed": 1, "steps": [1, 2]}},
        "dev": {"source": "word_problems", "options": {"n": 10, "seed": 2, "steps": [1, 2]}},
    },
    "prompt": {"template": "Question: {question}\nAnswer:", "completion_prefix": " "},
    "verifier": {"name": "math", "workers": 1},
    "sample": {"n": 4, "max_tokens": 96, "unit": 16, "batch_size": 16},
    "select": {"rounds": "all"},
    "train": {"lr": 1e-3, "batch_size": 8, "epochs": 2, "save_steps": 1},
    "eval": {"n": 4, "k": [1, 4], "max_tokens": 96, "group_by": "steps"},
}
FEW_PROBLEMS = MINIATURE["data"] | {
    "train": {"source": "word_problems", "options": {"n": 8, "seed": 1, "steps": [1, 2]}}
}
# For runs whose held-out scores nobody looks at.
EVALUATED_ONCE: dict[str, Any] = {"n": 1, "k": [1], "max_tokens": 48, "greedy": False, "kl_traces": 0}


def write_config(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(MINIATURE | {"run_dir": str(folder / "run")} | changes))
    return path


def command(*arguments: str) -> list[str]:
    """The command line of a process of its own, for what only one can show: signals, a kill, its start."""
    return [sys.executable, "-m", "star_rft.cli", *arguments]


def environment() -> dict[str, str]:
    """One thread: equal runs need an equal thread count, and tests share the machine."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call star-rft in this process, as if it had been typed in `cwd`; what it prints is no terminal's.

    An exception that `main` does not turn into a message is raised here.
    """
    with CliRunner().isolation() as (out, err, _):
        status = status_of(*arguments, cwd=cwd)
        printed, told = (stream.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, status, printed, told)


def status_of(*arguments: str, cwd: Path) -> int:
    """Call star-rft in this process with the streams that it has now, and return the status that it ends with."""
    status: str | int | None = 0
    warnings = logging.StreamHandler(sys.stderr)  # Python's own handler of last resort rests under pytest
    warnings.setLevel(logging.WARNING)
    logging.getLogger().addHandler(warnings)
    try:
        with contextlib.chdir(cwd), _program("star-rft", *arguments):
            main()
    except SystemExit as end:
        status = end.code
    finally:
        logging.getLogger().removeHandler(warnings)
        sys.stdout.flush()
        sys.stderr.flush()
    assert status is None or isinstance(status, int)
    return status or 0


@contextlib.contextmanager
def _program(*argv: str) -> Iterator[None]:
    """Give the process these arguments, and take back afterwards what a program may leave behind in it."""
    arguments, path, modules = sys.argv, list(sys.path), set(sys.modules)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    folder = Path.cwd()
    sys.argv = list(argv)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = arguments, path
        stop.number = None
        for number, handler in handlers.items():
            signal.signal(number, handler)
        # "my_checks:function" of one test is not that of the next.
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == folder:
                del sys.modules[name]


def outcome(run: Path) -> dict[str, Any]:
    """Everything about a finished run that must not depend on how often it was interrupted."""
    con = Ledger(run).connect()
    traces = con.sql("select * exclude (verify_seconds, ordinal) from traces order by sample_id").fetchall()
    selection = con.sql("select * from selection order by in_round, sample_id").fetchall()
    metrics = [json.loads(path.read_text()) for path in sorted(run.glob("rounds/*/metrics.json"))]
    for round_index in metrics:
        round_index.pop("seconds")
    weights = {
        str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("rounds/*/checkpoint/*.safetensors"))
    }
    return {"traces": traces, "selection": selection, "metrics": metrics, "weights": weights}
