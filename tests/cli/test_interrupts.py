"""Ctrl-C and SIGTERM: nothing is left behind, what is saved is said, and what is said to go on with goes on."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import psutil
import pytest

from star_rft.cli.interrupts import what_is_saved
from star_rft.config import load
from tests.small_runs import call, command, environment, outcome, write_config

LISTENS = "import signal, sys, time; from star_rft.cli.interrupts import Interruption, stop; stop.listen(); "


def wait_for(is_time: Callable[[], bool], process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait for a moment, and return the processes that this one has started."""
    while not is_time():
        assert process.poll() is None, "ended before the moment came"
        time.sleep(0.005)
    return psutil.Process(process.pid).children(recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=5)
    return not alive


def typed_into(arguments: list[str], is_time: Callable[[], bool]) -> tuple[int, str]:
    """Run a command in a terminal of its own, type Ctrl-C when it is time, and return its status and what it showed."""
    variables = {name: value for name, value in environment().items() if name not in ("CI", "NO_COLOR")}
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    terminal = variables | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(["setsid", "--ctty", *arguments], env=terminal, **streams) as process:  # type: ignore[call-overload]
        os.close(theirs)
        blocks: list[bytes] = []
        reader = Thread(target=_read_all, args=(ours, blocks))  # all the time: a terminal that is full makes it wait
        reader.start()
        children = wait_for(is_time, process)
        assert children
        os.write(ours, b"\x03")
        process.wait()
        reader.join()
    os.close(ours)
    assert are_gone(children)
    # The terminal throws away what it has not shown yet when Ctrl-C is typed, be it half a letter.
    return process.returncode, b"".join(blocks).decode(errors="replace").replace("\r\n", "\n")


def _read_all(terminal: int, blocks: list[bytes]) -> None:
    with suppress(OSError):  # Linux says so when the last program has left the terminal
        while block := os.read(terminal, 65536):
            blocks.append(block)


def stopped_by(number: int, arguments: list[str], is_time: Callable[[], bool]) -> tuple[int, str]:
    """Run a command as a shell does, in a process group; signal all of that; return its status and its messages."""
    given: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment()}
    with subprocess.Popen(arguments, start_new_session=True, **given) as process:  # type: ignore[call-overload]
        children = wait_for(is_time, process)
        os.killpg(process.pid, number)
        messages = process.stderr.read().decode()
    assert are_gone(children)
    return process.returncode, messages


@pytest.mark.full
def test_a_run_stopped_while_it_samples_and_trains_goes_on_and_ends_as_an_undisturbed_one(
    finished: Path, tmp_path: Path
) -> None:
    config, run = write_config(tmp_path / "a run", rounds=1), tmp_path / "a run/run"
    typed = command("run", str(config))
    manifest = run / "ledger/manifest"
    status, shown = typed_into(typed, lambda: manifest.exists() and '"r001-train-' in manifest.read_text())
    assert status == 130
    assert "Traceback" not in shown
    last = shown[shown.rindex("stopped in ") :].splitlines()
    assert last[0] == "stopped in round 1 of 1 while sampling"
    assert re.fullmatch(r"saved: round 0, [1-4] of 4 units of its samples", last[1])
    assert shlex.split(last[2].removeprefix("to go on: ")) == typed
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is there again
    assert (run / "report.html").exists()  # of the round that is finished

    whole = "work/001-checkpoint/checkpoint-*/whole.json"
    status, messages = stopped_by(signal.SIGTERM, typed, lambda: any(run.glob(whole)))
    assert status == 143
    assert "Traceback" not in messages
    *_, stage, saved, again = messages.splitlines()
    assert stage == "stopped in round 1 of 1 while training"
    assert re.fullmatch(r"saved: round 0, its samples and selection, its training up to step [1-5]", saved)

    assert shlex.split(again.removeprefix("to go on: ")) == typed
    done = call("run", str(config), "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stopped, undisturbed = outcome(run), outcome(finished)
    assert stopped["metrics"] == undisturbed["metrics"][:2]
    assert stopped["weights"] == {name: w for name, w in undisturbed["weights"].items() if "/001/" in name}


def test_what_is_saved_is_said_for_each_stage(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = load(run / "config.yaml", {"run_dir": str(run)})
    assert list(what_is_saved(config)) == ["stopped; all 2 rounds are finished"]
    told = {}
    for name in ("metrics.json", "checkpoint", "selection.parquet"):
        path = run / "rounds/002" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        told[name] = list(what_is_saved(config))
    assert told["metrics.json"] == [
        "stopped in round 2 of 2 while evaluating",
        "saved: rounds 0-1, its checkpoint, 4 of 4 units of its evaluation",
    ]
    assert told["checkpoint"] == [
        "stopped in round 2 of 2 while training",
        "saved: rounds 0-1, its samples and selection, its training begins anew",
    ]
    assert told["selection.parquet"][0] == "stopped in round 2 of 2 while selecting"
    shutil.rmtree(run / "rounds")
    warm = config.model_copy(
        update={"warm_start": load(write_config(tmp_path / "w", warm_start={"lr": 1e-4})).warm_start}
    )
    assert next(what_is_saved(warm)) == "stopped in round 0 of 2 while training the warm start"
    nowhere = config.model_copy(update={"run_dir": str(tmp_path / "nowhere")})
    assert list(what_is_saved(nowhere)) == [f"stopped before anything was sampled; {tmp_path / 'nowhere'} is as it was"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_without_a_run_stops_without_a_traceback_too(number: int, status: int) -> None:
    typed = command("verify", "math", "-", "--workers", "1")
    with subprocess.Popen(typed, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b'{"id": 1, "completion": "#### 1", "reference": "1"}\n')
        process.stdin.flush()  # and it waits for more
        children = wait_for(lambda: bool(psutil.Process(process.pid).children()), process)
        process.send_signal(number)
        messages = process.stderr.read().decode()
    assert process.returncode == status
    assert "Traceback" not in messages
    assert messages.splitlines()[-1] == f"to begin again: {shlex.join(typed)}"
    assert are_gone(children)


def test_the_second_signal_ends_a_process_at_once() -> None:
    hangs = "print('{}', flush=True); time.sleep(60)\n"
    hangs = f"\ntry:\n    {hangs.format('ready')}except Interruption:\n    {hangs.format('once')}"
    with subprocess.Popen([sys.executable, "-c", LISTENS + hangs], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for expected in ("ready\n", "once\n"):
            assert process.stdout.readline() == expected
            process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait() == 130
        assert time.monotonic() - began < 10


def test_a_signal_that_the_parent_has_it_ignore_is_ignored() -> None:
    """As SIGINT is for `star-rft run ... &` in a script, where Ctrl-C is meant for the script."""
    ignores = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + LISTENS
    code = ignores + "signal.raise_signal(signal.SIGINT); print('goes on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"


def test_a_signal_that_a_library_swallowed_still_ends_the_work() -> None:
    code = LISTENS + (
        "\ntry:\n    signal.raise_signal(signal.SIGTERM); time.sleep(1)\nexcept Interruption:\n    pass"
        "\ntry:\n    stop.check()\nexcept Interruption:\n    print(stop.status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "143\n"


@pytest.mark.slow
def test_a_benchmark_that_is_stopped_goes_on_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["bench", "tiny", "--data", "word_problems", "--k", "1,4", "--limit", "64"]
    arguments += ["--set", "data.test.options={steps: [1, 2]}", "--set", "sample.unit=16"]
    typed = command(*arguments)
    monkeypatch.chdir(tmp_path)
    status, messages = stopped_by(signal.SIGINT, typed, lambda: any(tmp_path.glob("runs/*/ledger/verdicts/*.parquet")))
    assert status == 130
    *_, stage, saved, again = messages.splitlines()
    assert stage == "stopped while evaluating"
    assert re.fullmatch(r"saved: [1-9]\d* of \d+ units of its evaluation", saved)
    assert shlex.split(again.removeprefix("to go on: ")) == typed
    before = len(list(tmp_path.glob("runs/*/ledger/verdicts/*.parquet")))
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert f"({before * 16} of them before)" in done.stderr
