"""Programs that harm: each test attacks one property of the sandbox, in every level that this machine has."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import verifiers
from tests.shared_data import shared
from tests.verifiers.sandbox.jails import LIMIT, REACHED, RIGHT, TESTS, TRY, judge
from verifiers.sandbox import isolation
from verifiers.sandbox import jail as jails
from verifiers.sandbox.jail import Jail, NoSandbox, Outcome, Settings


@pytest.mark.parametrize(
    "attack",
    [
        "open({canary!r}).read()",
        "open({writable!r}, 'w').write('owned')",
        "__import__('os').symlink({canary!r}, 'link'); open('link').read()",
        "__import__('socket').create_connection(('127.0.0.1', {port}), 1)",
        "__import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', {port}))",
        "s = __import__('socket').socket(1); s.connect(chr(0) + {abstract!r})",
        "a, b = __import__('socket').socketpair(1, 2); a.sendto(b'x', chr(0) + {abstract!r})",
        "__import__('os').kill({pid}, 0)",
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "__import__('os').setpriority(0, {pid}, 19)",
        "__import__('os').fork()",
        "__import__('os').execv('/bin/true', ['true'])",
        "__import__('subprocess').run(['true'])",
        "open('/proc/%d/environ' % __import__('os').getppid(), 'rb').read()",
        "open('/proc/1/environ', 'rb').read()",
        "open('/proc/sys/kernel/core_pattern', 'r+')",
        "open('/dev/tty', 'r')",
        "__import__('os').chroot('/')",
        "__import__('os').mkfifo('/usr/lib/fifo')",
        "__import__('os').setuid(0)",
        "r = __import__('resource'); r.prlimit({pid}, r.RLIMIT_NOFILE)",
        "r = __import__('resource'); r.setrlimit(r.RLIMIT_AS, (1 << 40, 1 << 40))",
        "__import__('os').listdir('/root'); open('/etc/shadow')",
        "__import__('socket').socket(16, 3, 0)",
        "__import__('os').posix_fallocate(open('f', 'wb').fileno(), 0, 1 << 20)",
        "__import__('os').link(__import__('os').__file__, 'link')",
        "__import__('os').mknod('device', 0o60600, 0x800)",
        "open('/proc/self/oom_score_adj', 'w').write('-1000')",
    ],
)
def test_nothing_on_the_host_is_read_written_reached_or_signalled(jail: Jail, tmp_path: Path, attack: str) -> None:
    tmp_path.chmod(0o755)
    canary, writable = tmp_path / "canary", tmp_path / "writable"
    canary.write_text("secret")
    writable.write_text("clean")
    writable.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        abstract = f"star-rft-{os.getpid()}"
        unix.bind(f"\0{abstract}")
        unix.listen()
        facts = {"canary": str(canary), "writable": str(writable), "port": server.getsockname()[1]}
        text = attack.format(**facts, abstract=abstract, pid=os.getpid())
        program = TRY.format(attack=text).replace("except OSError", "except (OSError, ValueError)")
        assert judge(jail, program, REACHED).status == "incorrect"
        for listener in (server, unix):
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert writable.read_text() == "clean"
    assert judge(jail, RIGHT).status == "correct"


RAW_CALLS = {
    "socket": (41, "2, 1, 0"),
    "ptrace": (101, "16, os.getppid(), 0, 0"),
    "process_vm_readv": (310, "os.getppid(), 0, 0, 0, 0, 0"),
    "unshare": (272, "0x10000000"),
    "mount": (165, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "keyctl": (250, "0, -3, 1"),
    "bpf": (321, "0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "pidfd_open": (434, "os.getppid(), 0"),
    "memfd_create": (319, "b'x', 0"),
    "clone": (56, "17, 0, 0, 0, 0"),
    "shmget": (29, "1, 4096, 0o1600"),
    "perf_event_open": (298, "0, 0, -1, -1, 0"),
    "userfaultfd": (323, "0"),
    "x32": (0x40000000 + 41, "2, 1, 0"),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
@pytest.mark.parametrize("name", RAW_CALLS)
def test_no_system_call_goes_round_the_filter(jail: Jail, name: str) -> None:
    number, arguments = RAW_CALLS[name]
    program = (
        "import ctypes, os\ndef solve(x):\n"
        f"    result = ctypes.CDLL(None, use_errno=True).syscall({number}, {arguments})\n"
        "    if result == 0 and os.getpid() == 0: os._exit(0)\n    return 'REACHED' if result >= 0 else 'no'\n"
    )
    assert judge(jail, program, REACHED).status == "incorrect"


def test_the_environment_holds_no_secret(jail: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_TOKEN", "secret")
    with jails.borrowed(Settings(time_limit=2.0)) as own:
        program = "import os\ndef solve(x): return 'REACHED' if 'HARNESS_TOKEN' in os.environ else 'no'\n"
        assert judge(own, program, REACHED).status == "incorrect"


def test_one_candidate_leaves_nothing_for_the_next(jail: Jail) -> None:
    write = (
        "import os\nfor d in ('.', '/tmp', '/dev/shm', '/var/tmp', '/run'):\n    try:\n"
        "        os.makedirs(d + '/a/b', exist_ok=True)\n        open(d + '/a/b/channel', 'w').write('1')\n"
        "        os.symlink('/usr', d + '/link')\n        os.chmod(d + '/a/b', 0)\n        os.chmod(d, 0)\n"
        "    except OSError: pass\ndef solve(x): return x * x + 1\n"
    )
    look = (
        "import os\ndef solve(x):\n    return 'REACHED' if any(os.path.lexists(d + n) for n in ('/a', '/link')\n"
        "        for d in ('.', '/tmp', '/dev/shm', '/var/tmp', '/run')) else 'no'\n"
    )
    assert judge(jail, write).status == "correct"
    assert judge(jail, look, REACHED).status == "incorrect"
    assert judge(jail, RIGHT).status == "correct"


LITTER = {
    "a deep tree": "import os\nfor _ in range(1100):\n    os.mkdir('d')\n    os.chdir('d')\n",
    "a long path": "import os\nfor _ in range(100):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n",
    "many files": "import os\nfor i in range(500): os.close(os.open(str(i), os.O_CREAT))\n",
    "closed folders": "import os\nos.makedirs('a/b/c')\nopen('a/b/f', 'w')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\n",
    "names that are no text": "import os\nos.makedirs(b'\\xff/\\n')\nopen(b'\\xff/\\x80', 'w')\n",
    "no folder": "import os\nos.mkdir('d')\nos.chdir('d')\nos.rmdir('../d')\n",
}


@pytest.mark.parametrize("name", LITTER)
def test_no_litter_stops_the_next_program(monkeypatch: pytest.MonkeyPatch, jail: Jail, name: str) -> None:
    monkeypatch.setattr(jails, "_SETTLE_LIMIT", 30.0)
    assert judge(jail, LITTER[name] + RIGHT).status == "correct"
    look = "import os\ndef solve(x): return 'no' if os.listdir() else 'REACHED'\n"
    assert judge(jail, look, REACHED).status == "correct"


def test_a_jail_that_is_long_in_tidying_up_is_replaced() -> None:
    reference = {"tests": TESTS, "entry_point": "solve"}
    script = "import os\nfor _ in range(4000):\n    os.mkdir('d')\n    os.chdir('d')\nprint(1)\n"
    assert verifiers.verify("code", script, {"cases": [["", "1"]]}).status == "correct"
    began = time.monotonic()
    assert verifiers.verify("code", RIGHT, reference).status == "correct"
    assert time.monotonic() - began < 4


def test_a_tree_that_a_killed_process_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    here = os.open(tmp_path, os.O_RDONLY)
    for name in (f"{jails._SCRATCH_PREFIX}99999999-x", *["d"] * 1100):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert [str(tmp_path / name) for name in os.listdir(tmp_path)] != [fresh := jails._new_scratch()]
    assert os.listdir(tmp_path) == [os.path.basename(fresh)]


# Resources

BOMBS = {
    "memory": "def solve(x):\n    s = 'x' * (4 << 30)\n    return x * x + 1\n",
    "a large file": "def solve(x):\n    open('f', 'wb').write(b'x' * (64 << 20))\n    return x * x + 1\n",
    "descriptors": "import os\ndef solve(x):\n    while True: os.open('/dev/null', 0)\n",
    "threads": (
        "import threading\ndef solve(x):\n    for _ in range(5000):\n"
        "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n    return x * x + 1\n"
    ),
    "the stack": "import ctypes\ndef solve(x):\n    ctypes.string_at(0)\n",
    "stop": "import os, signal\ndef solve(x):\n    signal.raise_signal(signal.SIGSTOP)\n    return 0\n",
    "sleep": "import time\ndef solve(x):\n    time.sleep(60)\n",
    "a loop that catches all": (
        "import time\ndef solve(x):\n    while True:\n        try: time.sleep(9)\n        except BaseException: pass\n"
    ),
    "an endless generator": "def solve(x):\n    while True: yield 1\n",
    "an endless finaliser": (
        "class D:\n    def __del__(self):\n        while True: pass\nd = D()\n"
        "def solve(x): return 0\n"
    ),
    "a huge result": "def solve(x):\n    return ['x' * 1000] * 200_000\n",
    "half a frame": (
        "import os, time\ndef solve(x):\n    for fd in range(3, 20):\n        try: os.write(fd, b'\\x05')\n"
        "        except OSError: pass\n    time.sleep(60)\n"
    ),
    "a pipe that nobody reads": "def solve(x):\n    x.append(1)\n    import time\n    time.sleep(60)\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_its_limit(hasty: Jail, name: str) -> None:
    tests = "def check(candidate):\n    assert list(candidate(2)) == 5\n" if "generator" in name else TESTS
    began = time.monotonic()
    assert judge(hasty, BOMBS[name], tests).status == "incorrect"
    assert time.monotonic() - began < LIMIT + 2
    assert judge(hasty, RIGHT).status == "correct"


def test_a_test_that_hangs_on_what_it_was_given_is_killed_with_its_judge(hasty: Jail) -> None:
    tests = "def check(candidate):\n    n = candidate(1)\n    while n > 0:\n        pass\n"
    began = time.monotonic()
    assert judge(hasty, "def solve(x):\n    return 1\n", tests).reason == "timeout"
    assert time.monotonic() - began < LIMIT + 2
    assert judge(hasty, RIGHT).status == "correct"


def test_a_script_that_closes_its_output_late_has_no_more_time(hasty: Jail) -> None:
    began = time.monotonic()
    script = f"import os, time\nprint(1, flush=True)\ntime.sleep({LIMIT - 0.1})\nos.close(1)\nwhile True: pass\n"
    failure, _ = hasty.run_case(script, "", limit=9)
    assert failure is not None
    assert time.monotonic() - began < LIMIT + 0.7


def test_many_programs_leave_no_process_file_or_memory_behind(jail: Jail) -> None:
    def footprint() -> tuple[int, int, float]:
        below = jail_processes(jail)
        return len(below), psutil.Process().num_fds(), sum(p.memory_info().rss for p in below) / 2**20

    for _ in range(20):
        judge(jail, RIGHT)
    before = footprint()
    for i in range(200):
        judge(jail, RIGHT, f"{TESTS}# {i // 4}\n")
    after = footprint()
    assert after[:2] == before[:2]
    assert after[2] < before[2] + 4


def jail_processes(jail: Jail) -> list[psutil.Process]:
    jail.settle()
    main = psutil.Process(jail._process.pid)  # bubblewrap, or the zygote itself
    return [main, *main.children(recursive=True)]


def test_packages_below_tmp_are_seen_although_a_jail_has_a_tmp_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    way = next((way for way in isolation.ways(is_unsafe=False, uid=200_123_456) if way.level == "jail"), None)
    if way is None or not str(tmp_path).startswith("/tmp/"):
        pytest.skip("needs bubblewrap and a temporary folder below /tmp")
    (tmp_path / "packaged.py").write_text("FOUND = 7\n")
    tmp_path.chmod(0o755)
    monkeypatch.setattr(isolation, "_package_folders", lambda: [str(tmp_path)])
    with contextlib.closing(Jail(Settings(), way)) as jail:
        program = "import os, packaged\ndef solve(x):\n    return packaged.FOUND, os.listdir('/tmp')\n"
        tests = "def check(candidate):\n    assert candidate(0) == (7, [])\n"
        assert jail.test(program, tests, "solve") == Outcome("correct", "match")


def test_closing_a_pool_ends_its_jails() -> None:
    before = set(psutil.Process().children(recursive=True))
    with verifiers.Pool("code", workers=1) as pool:
        assert [v.status for v in pool.verify_iter([(RIGHT, {"tests": TESTS, "entry_point": "solve"})])] == ["correct"]
        below = set(psutil.Process().children(recursive=True)) - before
        assert len(below) >= 3
    _, alive = psutil.wait_procs(below, timeout=5)
    assert alive == []


def test_a_jail_that_breaks_is_replaced_and_the_verdict_stands() -> None:
    with jails.borrowed(Settings()) as own:
        os.kill(own._process.pid, 9)
    verdict = verifiers.verify("code", RIGHT, {"tests": TESTS, "entry_point": "solve"})
    assert verdict.status == "correct"


def test_threads_of_one_process_share_its_jail() -> None:
    found: list[str] = []

    def work() -> None:
        for _ in range(5):
            found.append(verifiers.verify("code", RIGHT, {"tests": TESTS, "entry_point": "solve"}).status)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["correct"] * 20


# The ladder


def test_each_verdict_says_how_it_was_run() -> None:
    reference = {"tests": TESTS, "entry_point": "solve"}
    level, _ = jails.reached()
    assert verifiers.verify("code", RIGHT, reference).version == f"1+{level}"
    assert verifiers.verify_many("code", [(RIGHT, reference)], workers=1)[0].version == f"1+{level}"
    unsafe = verifiers.verify("code", RIGHT, reference, unsafe=True)
    assert (unsafe.status, unsafe.version) == ("correct", "1+unsafe")


def test_without_a_sandbox_nothing_runs_and_the_verdict_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(isolation, "ways", lambda **_: [])
    marker = tmp_path / "ran"
    with caplog.at_level(logging.WARNING), pytest.raises(NoSandbox, match=r"no sandbox holds here; .*bubblewrap"):
        jails.open_jail(Settings(memory_mb=512))
    program = f"open({str(marker)!r}, 'w')\n{RIGHT}"
    verdict = verifiers.verify("code", program, {"tests": TESTS, "entry_point": "solve"}, memory_mb=768)
    assert (verdict.status, verdict.reason, verdict.score) == ("unknown", "no_sandbox", None)
    assert not marker.exists()


def test_a_measure_that_the_kernel_refuses_ends_the_climb_and_no_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "readable", lambda way: ["\0 no path"])
    with pytest.raises(NoSandbox):
        jails.open_jail(Settings())


@pytest.mark.full
def test_the_shared_attacks_and_honest_programs_are_judged_right(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in shared("verifier/attacks.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "requires" not in row]
    verdicts = verifiers.verify_many("code", [_pair(row, tmp_path) for row in rows], timeout=3.0)
    wrong = [
        (row["id"], verdict.status, verdict.answer)
        for row, verdict in zip(rows, verdicts, strict=True)
        if (verdict.status == "correct") != (row["expect"] == "pass") or verdict.status == "unknown"
    ]
    assert wrong == []


def _pair(row: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    names = {"@CANARY_R@": str(folder / "r"), "@CANARY_W@": str(folder / "w"), "@MNT@": str(folder)}
    names |= {"@PORT@": "9", "@HOSTPID@": str(os.getpid()), "@ABSTRACT@": "none"}
    program, test = row["program"], row["test"]
    for name, value in names.items():
        program, test = program.replace(name, value), test.replace(name, value)
    if row["mode"] == "stdio":
        return program, {"cases": json.loads(test)}
    return program, {"tests": test, "entry_point": row["entry_point"]}
