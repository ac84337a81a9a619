"""Runs what a page tells its reader to run: star-rft in a fork of a warm process, everything else in bash."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from tests.docs.pages import shape, shapes
from tests.paths import ROOT

BIN = Path(sys.executable).parent
OPERATORS = frozenset({"|", ">", ">>", "<", "&", "&&", "||", ";", "(", ")"})
VARIABLE = re.compile(r"[A-Z_]+=")  # before a command, for it alone
LIMIT = 120.0  # seconds; nothing in the documentation takes so long at a small scale

WARM = "tests.docs.warm"


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


def run(command: str, folder: Path, *, interrupt_after: str | None = None) -> Done:
    """Run one command line in a folder.

    `interrupt_after` is a line of its output: it gets a SIGINT as soon as something of that shape is there.
    """
    words = shlex.split(command, comments=False)
    variables = dict(word.split("=", 1) for word in takewhile(VARIABLE.match, words))
    words = words[len(variables) :]
    is_plain = not OPERATORS.intersection(shlex.shlex(command, posix=True, punctuation_chars=True))
    if is_plain and words[0] == "star-rft":
        return _fork(["star-rft", *words[1:]], folder, interrupt_after, variables)
    if is_plain and words[:3] == ["python", "-m", "verifiers"]:
        return _fork(["verifiers", *words[3:]], folder, interrupt_after, variables)
    return _bash(command, folder)


def run_python(program: str, folder: Path) -> Done:
    path = folder / "program_of_the_page.py"
    path.write_text(program)
    return _fork([str(path)], folder)


def environment() -> dict[str, str]:
    """One thread, no network, the commands of this environment first, and this repository's modules."""
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return os.environ | settings | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def _bash(command: str, folder: Path) -> Done:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@lru_cache(maxsize=1)
def _warm() -> ForkServerContext:
    """Start the process that commands are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([WARM])
    before = dict(os.environ)
    os.environ.update(environment())  # it does not get this process's sys.path
    try:
        ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _fork(
    argv: list[str], folder: Path, interrupt_after: str | None = None, variables: Mapping[str, str] | None = None
) -> Done:
    out, err = folder / ".out", folder / ".err"
    for path in (out, err):
        path.write_text("")
    process = _warm().Process(
        target=_child, args=(argv, str(folder), str(out), str(err), environment() | dict(variables or {}))
    )
    process.start()
    until = time.monotonic() + LIMIT
    while process.is_alive() and time.monotonic() < until:
        if interrupt_after is not None and shape(interrupt_after) in shapes(out.read_text() + err.read_text()):
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
            interrupt_after = None
        process.join(0.02)
    if process.is_alive():
        process.kill()
        process.join()
    status = process.exitcode
    done = Done(-1 if status is None else status, out.read_text(), err.read_text())
    out.unlink()
    err.unlink()
    return done


def _child(argv: list[str], folder: str, out: str, err: str, settings: dict[str, str]) -> None:
    """Be the command: its folder, environment, arguments and output; what follows is its own code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(settings)
    for descriptor, path in ((1, out), (2, err)):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, descriptor)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = argv
    _main(argv)


def _main(argv: list[str]) -> None:
    if argv[0] == "star-rft":
        from star_rft.cli import main

        main()
        return
    sys.path.insert(0, os.getcwd())  # as Python does for a module or a program
    if argv[0] == "verifiers":
        from verifiers.__main__ import main as verify

        raise SystemExit(verify(argv[1:]))
    else:
        runpy.run_path(argv[0], run_name="__main__")
