"""What the vLLM backend does with its processes, whatever the engine in them does: a stand-in for vLLM misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from star_rft.engines.vllm.engine import vllm_version
from star_rft.engines.vllm.gpus import GpuMemory, shares
from star_rft.engines.vllm.sampler import VLLMSampler, engine_seed
from star_rft.errors import RunFailure, UserError
from star_rft.models import ASSETS
from star_rft.processes import cause
from star_rft.types import Completion, Decoding, Request
from tests.engines.conformance import groups_of

pytestmark = pytest.mark.usefixtures("own_temporary_folder")

PLAIN = Decoding(temperature=1.0, max_tokens=5)
STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that finds the stand-in as vLLM."""
    path = tmp_path_factory.mktemp("bin") / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{STAND_IN}" exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def opened(python: str, *, stall: float = 60.0, data_parallel: int = 1, **options: Any) -> VLLMSampler:
    return VLLMSampler(ASSETS / "tiny", python=python, stall=stall, data_parallel=data_parallel, options=options)


def asked(prompts: int, samples: int) -> list[Request]:
    return [
        Request(f"p{i}", sample_index, f"{i} apples", seed=100 * i + sample_index)
        for i in range(prompts)
        for sample_index in range(samples)
    ]


def alive(groups: list[int]) -> list[int]:
    """Return the processes of these groups, asked in another way than the code under test does."""
    found = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in found.splitlines()[1:]]
    return [int(pid) for pid, group, state in rows if int(group) in groups and not state.startswith("Z")]


def log_of(sampler: VLLMSampler) -> Path:
    assert sampler._replicas is not None
    return sampler._replicas._replicas[0].log


@pytest.mark.parametrize("engines", [1, 3])
def test_engines_share_the_requests_and_each_is_answered_once(python: str, engines: int) -> None:
    sampler = opened(python, data_parallel=engines)
    requests = asked(40, 6)
    completions = list(sampler.sample(requests, decoding=PLAIN))
    sampler.close()
    assert Counter(one.request for one in completions) == Counter(requests)
    for one in completions:
        length = one.request.seed % 7 + 1
        assert len(one.token_ids) == min(length, 5)
        assert one.finish_reason == ("stop" if length <= 5 else "length")


def test_all_samples_of_a_prompt_go_to_one_engine_and_both_have_work(
    python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = opened(python, data_parallel=2, step_seconds=0.01)
    assert sampler._replicas is not None
    sent: dict[int, list[int]] = {}
    for at, replica in enumerate(sampler._replicas._replicas):

        def send(message: Any, at: int = at, pass_on: Any = replica.send) -> None:
            if message["do"] == "draw":
                sent.setdefault(at, []).append(len(message["requests"]))
            pass_on(message)

        monkeypatch.setattr(replica, "send", send)
    list(sampler.sample(asked(30, 4), decoding=PLAIN))
    monkeypatch.undo()
    sampler.close()
    assert {count for counts in sent.values() for count in counts} == {4}
    assert len(sent[0]) + len(sent[1]) == 30
    assert min(len(sent[0]), len(sent[1])) >= 5


@pytest.mark.full
def test_a_slow_engine_gets_less(python: str) -> None:
    sampler = opened(python, data_parallel=2, step_seconds=0.005)
    assert sampler._replicas is not None
    slow = sampler._replicas._replicas[0].process.pid
    finished: list[Completion] = []
    stream = sampler.sample(asked(60, 4), decoding=PLAIN)
    finished.append(next(stream))
    os.kill(slow, signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while len(finished) < 200 and time.monotonic() < deadline:
        finished.append(next(stream))
    os.kill(slow, signal.SIGCONT)
    finished += stream
    sampler.close()
    assert len(finished) == 240  # the other engine drew nearly all, and what the stopped one had came in the end


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", r"exit status 1, MemoryError: out of memory.*ends with"),
        ("be killed", r"killed by SIGKILL.*ends with"),
    ],
)
def test_an_engine_that_dies_is_an_error_within_seconds_with_the_tail_of_its_log(
    python: str, how: str, message: str
) -> None:
    sampler = opened(python, misbehave=how, children=2)
    groups, log = groups_of(sampler), log_of(sampler)
    started = time.monotonic()
    with pytest.raises(RunFailure, match=message) as caught:
        list(sampler.sample(asked(10, 3), decoding=PLAIN))
    assert time.monotonic() - started < 5
    assert "\n    loading " in str(caught.value)
    assert "\n" not in str(caught.value).partition(" and ends with")[0]
    assert alive(groups) == []
    assert log.exists()
    with pytest.raises(RunFailure, match="is dead"):
        next(sampler.sample(asked(1, 1), decoding=PLAIN))
    sampler.close()


@pytest.mark.full
@pytest.mark.parametrize("how", ["hang", "stop"])
def test_an_engine_that_does_not_move_is_ended(python: str, how: str) -> None:
    sampler = opened(python, misbehave=how, children=1, stall=1.5)
    groups = groups_of(sampler)
    started = time.monotonic()
    with pytest.raises(RunFailure, match=r"has not moved for 1.5 seconds \(vllm.stall\) and was ended"):
        list(sampler.sample(asked(10, 3), decoding=PLAIN))
    assert 1.5 <= time.monotonic() - started < 8
    assert alive(groups) == []
    sampler.close()


@pytest.mark.full
def test_an_idle_engine_has_not_stalled(python: str) -> None:
    sampler = opened(python, stall=2.0, step_seconds=1.0)
    assert len(list(sampler.sample(asked(1, 1), decoding=PLAIN))) == 1
    time.sleep(3.3)  # a second of which passes until the last step is told
    assert len(list(sampler.sample(asked(1, 1), decoding=PLAIN))) == 1
    sampler.close()


@pytest.mark.full
def test_a_reader_that_takes_its_time_is_no_stall(python: str) -> None:
    sampler = opened(python, stall=1.0)
    stream = sampler.sample(asked(40, 4), decoding=PLAIN)
    next(stream)
    time.sleep(2.5)
    assert len(list(stream)) == 159
    sampler.close()


@pytest.mark.full
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"misbehave": "fail to load"}, RunFailure, "is dead .exit status 1, RuntimeError: no such weights"),
        ({"misbehave": "refuse"}, UserError, "vLLM refuses: 1 validation error the model is too large"),
        ({"misbehave": "load forever"}, RunFailure, "has not moved for 2 seconds"),
        ({"max_num_sequences": 3}, UserError, "vllm.options.max_num_sequences is no engine.*max_num_seqs"),
        ({"logprobs_mode": "x"}, UserError, "vllm.options.logprobs_mode cannot be set: samples stand on it"),
        ({"dtype": "x"}, UserError, "vllm.options.dtype cannot be set: set model.dtype"),
    ],
)
def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(
    python: str, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(kind, match=message):
        opened(python, stall=2, **options)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_request_that_vllm_refuses_is_the_users_mistake(python: str) -> None:
    sampler = opened(python)
    with pytest.raises(UserError, match=r"vLLM refuses: top_p must be in \(0, 1\], got 1.5"):
        list(sampler.sample(asked(1, 1), decoding=Decoding(temperature=1.0, max_tokens=5, top_p=1.5)))
    sampler.close()
    for temperature in (0.001, 2.5):
        with pytest.raises(UserError, match=r"vLLM draws at 0 or from 0.01 to 2"):
            opened(python).sample(asked(1, 1), decoding=Decoding(temperature=temperature, max_tokens=5))


def test_no_interpreter_and_no_vllm_are_said_before_anything_starts(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')  # no site-packages
    bare.chmod(0o755)
    with pytest.raises(UserError, match=r"vllm.python: /no/such/python cannot be run"):
        vllm_version("/no/such/python")
    with pytest.raises(UserError, match=r"vllm.python: .* cannot be run \(Permission denied\)"):
        vllm_version(str(tmp_path))
    with pytest.raises(UserError, match=r"vllm.python: /bin/false does not run as an interpreter"):
        vllm_version("/bin/false")
    with pytest.raises(UserError, match=r"vLLM is not installed for .*star-rft\[vllm\].*vllm.python"):
        vllm_version(str(bare))


def test_the_version_is_that_of_the_other_interpreter(python: str) -> None:
    assert vllm_version(python) == "9.8.7"


@pytest.mark.full
def test_what_an_engine_has_started_ends_with_it(python: str) -> None:
    sampler = opened(python, children=3, data_parallel=2)
    groups, log = groups_of(sampler), log_of(sampler)
    assert len(alive(groups)) == 8
    sampler.close()
    assert alive(groups) == []
    assert not log.exists()


@pytest.mark.full
def test_an_engine_that_does_not_close_is_killed(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_rft.engines.vllm.engine.CLOSED_WITHIN", 1.0)
    sampler = opened(python, misbehave="not close", children=1)
    groups = groups_of(sampler)
    sampler.close()
    assert alive(groups) == []


def test_a_dropped_stream_is_aborted_in_the_engine(python: str) -> None:
    sampler = opened(python, step_seconds=0.2, max_num_seqs=1)
    stream = sampler.sample(asked(3, 7), decoding=PLAIN)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    started = time.monotonic()
    assert len(list(sampler.sample(asked(1, 1), decoding=PLAIN))) == 1
    assert time.monotonic() - started < 3  # the six others that were handed over would take four seconds
    sampler.close()


@pytest.mark.full
def test_streams_may_be_read_side_by_side(python: str) -> None:
    sampler = opened(python, data_parallel=2)
    found: dict[int, list[Completion]] = {}

    def read(number: int) -> None:
        found[number] = list(sampler.sample(asked(20 + number, 3), decoding=PLAIN))

    threads = [Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sampler.close()
    for number, completions in found.items():
        assert Counter(one.request for one in completions) == Counter(asked(20 + number, 3))


@pytest.mark.full
def test_engines_end_with_the_process_that_started_them_even_by_sigkill(python: str) -> None:
    """Also when a child that it forked still holds the pipes open."""
    code = (
        "import os, time; from tests.engines.conformance import groups_of;"
        "from tests.engines.vllm.test_engine import log_of, opened;"
        f"s = opened({python!r}, children=2); is_parent = os.fork();"
        "is_parent and print(*groups_of(s), log_of(s), flush=True); time.sleep(1000 if is_parent else 8)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    group, log = parent.stdout.readline().split()
    assert len(alive([int(group)])) == 3
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while alive([int(group)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive([int(group)]) == []
    parent.stdout.close()
    Path(log).unlink()


def test_the_cause_of_a_death_is_not_its_consequence() -> None:
    log = """\
(Worker pid=7) ERROR 11-22 03:27:28 [a.py:953]     assert loaded.shape[0] == self.vocab
(Worker pid=7) ERROR 11-22 03:27:28 [a.py:953]            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
(Worker pid=7) ERROR 11-22 03:27:28 [a.py:953] AssertionError
(EngineCore pid=6) INFO 11-22 03:27:28 [b.py:1] an Error: of no weight
    raise RuntimeError(
RuntimeError: Engine core initialization failed. See root cause above."""
    assert cause(log.splitlines()) == "AssertionError at `assert loaded.shape[0] == self.vocab`"
    assert cause([*log.splitlines(), "torch.OutOfMemoryError: CUDA out of memory"]) == (
        "torch.OutOfMemoryError: CUDA out of memory"
    )
    assert cause(["loading", "done"]) is None


def test_seeds_are_signed_and_never_none() -> None:
    assert [engine_seed(seed) for seed in (0, 5, 2**63 - 1, 2**63)] == [0, 5, 2**63 - 1, -(2**63)]
    assert engine_seed(2**64 - 1) == 0
    assert engine_seed(2**64 - 2) == -2


def test_each_engine_gets_gpus_of_its_own() -> None:
    seen = {"CUDA_VISIBLE_DEVICES": "4,5, 6,7"}
    assert shares(1, 4, seen) == [None]  # vLLM sees what this process sees
    assert shares(2, 2, seen) == [("4", "5"), ("6", "7")]
    assert shares(4, 1, seen) == [("4",), ("5",), ("6",), ("7",)]
    assert shares(2, 1, {"CUDA_VISIBLE_DEVICES": ""}) == [None, None]
    with pytest.raises(UserError, match=r"vllm.data_parallel=3 engines of vllm.tensor_parallel=2 GPUs need 6 GPUs"):
        shares(3, 2, seen)


def test_memory_that_an_engine_keeps_is_seen() -> None:
    memory = GpuMemory(before={"0": 500, "1": 0}, during={"0": 70_500, "1": 0})
    assert memory.kept({"0": 600, "1": 30_000}) == {}  # a little is somebody else's, and GPU 1 was never taken
    assert memory.kept({"0": 40_500, "1": 0}) == {"0": 40_000}


def test_the_memory_of_other_gpus_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's command, on a machine of two GPUs."""
    command = tmp_path / "nvidia-smi"
    command.write_text(
        '#!/bin/sh\nif [ "$3" = -i ]; then echo "$4, $(cat '
        + f"{tmp_path}/used"
        + ')"; else echo "0, 7"; echo "1, 8"; fi\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("star_rft.engines.vllm.gpus.FREED_WITHIN", 1.0)
    assert shares(2, 1, {}) == [("0",), ("1",)]
    (tmp_path / "used").write_text("500")
    memory = GpuMemory.used_now([None], 1, {"CUDA_VISIBLE_DEVICES": "1,0"})
    assert memory.before == {"1": 500}
    (tmp_path / "used").write_text("70500")
    memory = memory.with_engines()
    with pytest.raises(RunFailure, match="still in use: GPU 1: 70000 MiB"):
        memory.require_freed()
    (tmp_path / "used").write_text("600")
    memory.require_freed()
