from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

import verifiers
from tests.tiers import fast_only

OBEY = "tests.verifiers.sample_checks:obey"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {pids}"
        time.sleep(0.02)


def run_script(code: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    root = str(Path(verifiers.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": root},
        check=False,
    )


def test_the_order_of_the_pairs_is_kept_over_workers() -> None:
    pairs = [(str(i), str(i if i % 3 else -1)) for i in range(3000)]
    verdicts = verifiers.verify_many(OBEY, pairs, workers=2)
    assert [v.is_correct for v in verdicts] == [bool(i % 3) for i in range(3000)]


def test_in_process_and_in_workers_give_the_same_verdicts() -> None:
    pairs = [("#### 18", "18"), ("#### 19", "18"), ("no idea", "18"), ("#### 1", "expected?")]
    here = verifiers.verify_many("numeric", pairs, workers=0)
    there = verifiers.verify_many("numeric", pairs, workers=1)
    assert [(v.status, v.reason, v.answer, v.version) for v in here] == [
        (v.status, v.reason, v.answer, v.version) for v in there
    ]


@pytest.mark.parametrize("how", ["hang", "sleep"])
def test_a_hang_is_killed_at_its_limit_and_only_its_item_is_lost(how: str) -> None:
    pairs = [("a", "a")] * 20 + [(how, "a")] + [("a", "a")] * 20
    began = time.monotonic()
    verdicts = verifiers.verify_many(OBEY, pairs, workers=2, timeout=0.5)
    assert time.monotonic() - began < 8
    assert [v.status for v in verdicts] == ["correct"] * 20 + ["unknown"] + ["correct"] * 20
    assert verdicts[20].reason == "fault"
    assert 0.5 <= verdicts[20].seconds < 4


def test_the_answer_after_a_killed_hang_comes_from_a_warm_spare() -> None:
    with verifiers.Pool(OBEY, workers=1, timeout=1.0) as pool:
        list(pool.verify_iter([("a", "a")]))
        stream = pool.verify_iter([("hang", "a"), ("a", "a")])
        assert next(stream).reason == "fault"
        killed = time.monotonic()
        assert next(stream).is_correct
        assert time.monotonic() - killed < 1.5


def test_a_worker_that_dies_loses_only_its_item() -> None:
    pairs = [("die" if i % 10 == 5 else "a", "a") for i in range(60)]
    verdicts = verifiers.verify_many(OBEY, pairs, workers=2)
    assert [v.reason for v in verdicts] == ["fault" if i % 10 == 5 else "match" for i in range(60)]


@pytest.mark.parametrize("number", fast_only([signal.SIGKILL, signal.SIGSTOP], signal.SIGKILL))
def test_a_worker_that_is_killed_or_stopped_from_outside_costs_no_verdict(number: signal.Signals) -> None:
    ours, hit = psutil.Process(), set[int]()
    with verifiers.Pool(OBEY, workers=2, timeout=1.0, seconds=0.15) as pool:
        verdicts = []
        for verdict in pool.verify_iter([("a", "a")] * 40):
            verdicts.append(verdict)
            for worker in ours.children() if len(verdicts) in (5, 20) else []:
                if worker.pid not in hit and worker.num_threads():
                    os.kill(worker.pid, number)
                    hit.add(worker.pid)
    assert [verdict.reason for verdict in verdicts] == ["match"] * 40
    assert len(hit) >= 3


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("completion", ["raise", "exit"])
def test_a_broken_check_is_unknown_and_says_why(
    completion: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    verdicts = verifiers.verify_many(OBEY, [(completion, "a"), ("a", "a")], workers=workers)
    assert [(v.status, v.score) for v in verdicts] == [("unknown", None), ("correct", 1.0)]
    assert "Error" in caplog.text or "Exit" in caplog.text


def test_a_check_that_prints_breaks_nothing() -> None:
    assert [v.reason for v in verifiers.verify_many(OBEY, [("print", "print")] * 5, workers=1)] == ["match"] * 5


def test_pairs_are_pulled_only_within_a_window() -> None:
    pulled = itertools.count()
    stream = verifiers.verify_iter(OBEY, ((str(i), str(next(pulled))) for i in itertools.count()), workers=1)
    assert all(next(stream).is_correct for _ in range(1000))
    assert next(pulled) <= 1000 + 256 + 1
    stream.close()  # type: ignore[attr-defined]


def test_workers_check_while_the_source_computes() -> None:
    # Six checks of 0.3 s on two workers fit into the time that the source takes anyway.
    def source() -> Iterator[tuple[str, str]]:
        for i in range(6):
            yield str(i), str(i)
            time.sleep(0.3)

    with verifiers.Pool(OBEY, workers=2, seconds=0.3) as pool:
        list(pool.verify_iter([("a", "a")] * 2))
        began = time.monotonic()
        assert all(v.is_correct for v in pool.verify_iter(source()))
        assert time.monotonic() - began < 6 * 0.3 + 1.0


def test_a_verdict_is_yielded_before_a_slow_source_is_asked_twice_more() -> None:
    pulled: list[int] = []

    def source() -> Iterator[tuple[str, str]]:
        for i in range(5):
            pulled.append(i)
            time.sleep(0.2)
            yield "a", "a"

    with verifiers.Pool(OBEY, workers=1) as pool:
        list(pool.verify_iter([("a", "a")]))
        next(pool.verify_iter(source()))
        assert len(pulled) <= 2


def test_an_error_of_the_source_reaches_the_caller() -> None:
    def source() -> Iterator[tuple[str, str]]:
        yield "a", "a"
        raise KeyError("the sampler broke")

    with pytest.raises(KeyError, match="the sampler broke"):
        verifiers.verify_many(OBEY, source(), workers=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_completion_that_is_no_text_fails_at_once(workers: int) -> None:
    with pytest.raises(TypeError, match="must be a str, not NoneType"):
        verifiers.verify_many(OBEY, [(None, "a")], workers=workers)  # type: ignore[list-item]


def test_a_pool_keeps_its_workers_over_calls() -> None:
    with verifiers.Pool("tests.verifiers.sample_checks:process_id", workers=1) as pool:
        answers = {v.answer for _ in range(3) for v in pool.verify_iter([("a", "a")] * 3)}
    assert len(answers) == 1


def test_a_pool_serves_several_threads_at_once() -> None:
    results: dict[int, bool] = {}
    with verifiers.Pool(OBEY, workers=2) as pool:

        def work(thread: int) -> None:
            pairs = [(f"{thread}-{i}", f"{thread}-{i}") for i in range(500)]
            results[thread] = all(v.is_correct for v in pool.verify_iter(pairs))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(4), True)


def test_the_last_tier_of_math_works_off_the_main_thread() -> None:
    # signal.alarm works in the main thread only: others scored a whole data set 0 that way.
    found: list[verifiers.Verdict] = []
    pair = (
        r"\boxed{z \in \left[-\frac{3}{2}, -1\right] \cup \left[1, \frac{3}{2}\right]}",
        r"1\leq|z|\leq \frac{3}{2}",
    )

    def work() -> None:
        found.append(verifiers.verify("math", *pair))
        found.extend(verifiers.verify_many("math", [pair], workers=1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [v.status for v in found] == ["correct", "correct"]


def test_loading_a_library_does_not_count_against_the_limit() -> None:
    pair = (
        r"\boxed{z \in \left[-\frac{3}{2}, -1\right] \cup \left[1, \frac{3}{2}\right]}",
        r"1\leq|z|\leq \frac{3}{2}",
    )
    # On a warm worker the check takes some ten milliseconds, the import before it at least 300.
    assert verifiers.verify_many("math", [pair], workers=1, timeout=0.25)[0].status == "correct"


def test_close_kills_the_workers_even_in_a_hang() -> None:
    pool = verifiers.Pool("tests.verifiers.sample_checks:process_id", workers=2)
    pids = {int(v.answer or 0) for v in pool.verify_iter([("a", "a")] * 50)}
    pool.close()
    wait_until_gone(sorted(pids))
    with pytest.raises(RuntimeError, match="closed"):
        list(pool.verify_iter([("a", "a")]))


def test_a_pool_closes_after_a_signal_that_came_while_a_lock_was_taken() -> None:
    """Its exception may leave a method of Python's own `threading` with the lock taken that the method is about."""

    class Interruption(BaseException):
        pass

    def stopping(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_name == "__enter__" and frame.f_globals["__name__"] == "threading" and event == "return":
            sys.settrace(None)
            raise Interruption
        traced = ("threading", "verifiers.workers.engine", "verifiers.workers.pool")
        return stopping if frame.f_globals["__name__"] in traced else None

    pool = verifiers.Pool("numeric", workers=1)
    tracer = sys.gettrace()
    sys.settrace(stopping)
    try:
        with suppress(Interruption):
            assert next(pool.verify_iter([("#### 1", "1")])).status == "correct"
    finally:
        sys.settrace(tracer)
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import os, threading, time, verifiers
        pool = verifiers.Pool("tests.verifiers.sample_checks:process_id", workers=1)
        print(next(pool.verify_iter([("a", "a")])).answer, flush=True)
        hanging = verifiers.Pool("tests.verifiers.sample_checks:obey", workers=1, timeout=600)
        threading.Thread(target=lambda: list(hanging.verify_iter([("hang", "a")])), daemon=True).start()
        while not (workers := hanging._engine._workers) or not workers[0].current():
            time.sleep(0.01)
        print(workers[0]._process.pid, flush=True)
        time.sleep(600)
        """)
    )
    root = str(Path(verifiers.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(is_alive(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until_gone(pids)


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    done = run_script(
        """
        import verifiers
        print("started")
        print([v.status for v in verifiers.verify_many("numeric", [("#### 5", "5")] * 3, workers=2)])
        """,
        folder=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("started\n['correct', 'correct', 'correct']\n", "")


def test_a_function_of_a_script_asks_for_an_importable_path(tmp_path: Path) -> None:
    done = run_script(
        """
        import sys
        sys.modules["cloudpickle"] = None  # as if it were not installed
        import importlib.util
        importlib.util.find_spec = lambda name: None
        import verifiers

        @verifiers.register("mine")
        def mine(completion, reference):
            return completion == reference

        print([v.status for v in verifiers.verify_many("mine", [("a", "a")], workers=0)])
        try:
            verifiers.verify_many("mine", [("a", "a")], workers=1)
        except ValueError as error:
            print(error)
        """,
        folder=tmp_path,
    )
    assert done.stdout.startswith("['correct']\nverifier 'mine' is defined in a notebook"), done.stderr
    assert "pkg.module:function" in done.stdout


def test_a_function_of_a_script_is_shipped(tmp_path: Path) -> None:
    done = run_script(
        """
        import verifiers
        SECRET = "a"

        @verifiers.register("mine", version="4")
        def mine(completion, reference):
            return completion == SECRET

        print([(v.status, v.version) for v in verifiers.verify_many("mine", [("a", "b")], workers=1)])
        """,
        folder=tmp_path,
    )
    assert done.stdout == "[('correct', '4')]\n", done.stderr


def test_a_verifier_that_workers_cannot_load_fails_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def check(completion, reference):\n    return True\n")
    with monkeypatch.context() as with_the_module:
        with_the_module.syspath_prepend(tmp_path)
        verifiers.get("only_here:check")
    with (
        verifiers.Pool("only_here:check", workers=1) as pool,
        pytest.raises(verifiers.WorkerLoadError, match="No module named 'only_here'"),
    ):
        list(pool.verify_iter([("a", "a")]))


def test_impossible_arguments_fail_before_anything_starts() -> None:
    for arguments, message in [
        ({"workers": -1}, "workers must be"),
        ({"timeout": 0.0}, "timeout must be"),
        ({"workers": 0, "timeout": 1.0}, "drop the timeout"),
    ]:
        with pytest.raises(verifiers.VerifierError, match=message):
            verifiers.Pool("numeric", **arguments)  # type: ignore[arg-type]


def test_large_completions_pass() -> None:
    big = "x" * 3_000_000
    assert [v.is_correct for v in verifiers.verify_many(OBEY, [(big, big), (big, "y")] * 4, workers=2)] == [
        True,
        False,
    ] * 4


def test_many_pools_leave_no_file_descriptors() -> None:
    for _ in range(2):
        verifiers.verify_many(OBEY, [("a", "a")], workers=1)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(5):
        verifiers.verify_many(OBEY, [("a", "a"), ("die", "a")], workers=1)
    after = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert after <= before
