"""Servers that star-rft starts itself, and whole runs over them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml

from star_rft.addresses import key_from
from star_rft.engines.server.launch import LocalServer
from star_rft.errors import RunFailure, UserError
from star_rft.ledger import Ledger
from star_rft.models import ASSETS
from tests.engines.faulty_server import MODEL, serving
from tests.engines.server_backends import SERVE_TINY
from tests.small_runs import MINIATURE, call, write_config

NO_KEY = key_from(None, of="")
KEY = "secret-0123456789"
# A server with a child in a session of its own, which no signal to its group reaches; both ignore SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deep', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def script(folder: Path, text: str) -> str:
    path = folder / "server.py"
    path.write_text(text)
    return f"{sys.executable} {path} {{model}} {{port}}"


def pids_in(log: Path) -> list[int]:
    end = time.monotonic() + 20
    while "deep" not in (text := log.read_text() if log.exists() else "") and time.monotonic() < end:
        time.sleep(0.02)
    line = next(line for line in text.splitlines() if line.startswith("pids"))
    return [int(word) for word in line.split()[1:]]


def require_gone(pids: list[int], *, within: float) -> None:
    end = time.monotonic() + within
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_a_server_that_ends_at_once_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    start = script(tmp_path, "import sys; print('no such GPU, alas'); sys.exit(3)")
    server = LocalServer(start, ASSETS / "tiny", log=tmp_path / "logs" / "server.log", key=NO_KEY)
    with pytest.raises(RunFailure, match=r"(?s)ended with status 3; the end of .*server\.log:.*no such GPU, alas"):
        server.wait(lambda url: False, timeout=20.0)
    server.close()


@pytest.mark.full
@pytest.mark.slow
def test_a_server_that_never_answers_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "server.log"
    server = LocalServer(script(tmp_path, STUBBORN), ASSETS / "tiny", log=log, key=NO_KEY)
    pids = pids_in(log)
    quick = script(tmp_path, "import time; time.sleep(600)")  # ends when it is asked to
    other = LocalServer(quick, ASSETS / "tiny", log=tmp_path / "other.log", key=NO_KEY)
    with pytest.raises(RunFailure, match=r"did not answer within 0\.5 s; the end of"):
        other.wait(lambda url: False, timeout=0.5)
    server.close()  # which kills what does not end by itself
    require_gone(pids, within=0.5)


@pytest.mark.full
def test_a_server_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    code = (
        "import sys, time; from pathlib import Path; from star_rft.engines.server.launch import LocalServer;"
        " from star_rft.addresses import key_from; log = Path(sys.argv[1]);"
        " LocalServer(sys.argv[2], 'some/model', log=log, key=key_from(None, of='')); time.sleep(600)"
    )
    polite = STUBBORN.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "pass")
    parent = subprocess.Popen([sys.executable, "-c", code, str(log), script(tmp_path, polite)])
    pids = pids_in(log)
    parent.kill()
    parent.wait()
    require_gone(pids, within=10.0)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"server\.start: no such program: no-such-server"):
        LocalServer("no-such-server {model} {port}", "some/model", log=tmp_path / "server.log", key=NO_KEY)


def miniature(folder: Path, **server: object) -> Path:
    """A run of one round that samples at servers, and trains and evaluates as every run."""
    sample = {**MINIATURE["sample"], "backend": "server"}
    sample["batch_size"] = None
    small = {"n": 2, "k": [1, 2], "max_tokens": 96, "greedy": False, "kl_traces": 0}
    return write_config(folder, rounds=1, sample=sample, eval=small, server={"backoff": 0.05, **server})


def run(path: Path, key: str | None = None) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        if key:
            patch.setenv("SERVER_KEY", key)
        return call("run", str(path), "--json", cwd=path.parent)


@pytest.mark.full
def test_a_run_whose_server_dies_goes_on_by_the_same_command_and_the_key_is_nowhere(tmp_path: Path) -> None:
    folder, counts = tmp_path / "here", tmp_path / "counts.jsonl"
    served = f"{SERVE_TINY} --counts {counts} --key-variable SERVER_KEY"
    path = miniature(folder, start=f"{served} --dies-after 50", key_variable="SERVER_KEY")
    broken = run(path, KEY)
    assert broken.returncode == 1, broken.stderr
    assert "the server of server.start ended with status" in broken.stderr
    committed = set(Ledger(folder / "run").units())
    assert committed  # what was drawn before is there

    done = run(miniature(folder, start=served, key_variable="SERVER_KEY"), KEY)  # the server section may change
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert [report["round"] for report in reports] == [0, 1]
    ledger = Ledger(folder / "run")
    con = ledger.connect()
    assert committed < set(ledger.units())
    assert con.sql("select count(*), count(distinct sample_id) from samples").fetchall() == [(104, 104)]
    assert con.sql("select distinct backend, backend_version from decodings").fetchall() == [("server", "1")]
    assert con.sql("select count(*) from samples where logprob is null").fetchall() == [(0,)]

    drawn = Counter(json.loads(line)[0] for line in counts.read_text().splitlines())
    assert len(drawn) == 2  # the model that the run starts from, and its checkpoint by a server of its own
    assert any(name.endswith("rounds/001/checkpoint") for name in drawn)
    log = (folder / "run" / "server.log").read_text()
    assert "with the key (key)" in log
    for text in (broken.stderr, broken.stdout, done.stderr, done.stdout):
        assert KEY not in text
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert not any("serve_tiny" in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


def test_with_an_address_alone_a_new_checkpoint_must_be_served_and_the_error_says_which(tmp_path: Path) -> None:
    path = miniature(tmp_path / "here")
    with serving(models=[MODEL]) as server:
        warm_start = {"lr": 1e-4, "max_steps": 1, "batch_size": 4}
        settings = yaml.safe_load(path.read_text()) | {"warm_start": warm_start}
        settings["server"] |= {"url": server.url, "model": MODEL}
        path.write_text(yaml.safe_dump(settings))
        done = run(path)
        assert not server.bodies  # under the name that it was given it still serves the model from before the training
    assert done.returncode == 2, done.stderr
    told = " ".join(done.stderr.split())
    checkpoint = tmp_path / "here" / "run" / "warm_start"
    assert f"serves {MODEL}, and what is asked for now is {checkpoint}: serve that one" in told
    assert "the same command goes on" in told


def test_where_nobody_listens_a_run_says_so_within_seconds(tmp_path: Path) -> None:
    done = run(miniature(tmp_path / "here", url="http://127.0.0.1:9/v1"))
    assert done.returncode == 2
    assert "http://127.0.0.1:9/v1 cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"url": f"http://me:{KEY}@host/v1"}, "leave the password out of the address"),
        ({"url": "localhost:8000"}, "is no address"),
        ({"url": ["http://a/v1", "http://a/v1"]}, "names one address twice"),
        ({"start": "vllm serve {model}"}, "start lacks {port}"),
        ({"start": "vllm serve '{model} {port}"}, "start is no command"),
        ({"start": f"vllm {KEY} {{model}} {{port}}", "key_variable": "SERVER_KEY"}, "start holds the key"),
        ({"url": "http://a/v1", "start": "vllm serve {model} --port {port}"}, "exclude each other"),
    ],
)
def test_a_server_section_that_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, server: dict[str, object], message: str
) -> None:
    done = run(miniature(tmp_path / "here", **server), KEY)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert KEY not in done.stderr
    assert not (tmp_path / "here" / "run").exists()
