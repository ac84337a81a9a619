"""Programs that cheat or harm: each test attacks one property of the sandbox, in every level that this machine has."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import verifiers
from tests.shared_data import shared
from tests.tiers import fast_only
from verifiers.sandbox import isolation
from verifiers.sandbox import jail as jails
from verifiers.sandbox.jail import Jail, JailFailure, NoSandbox, Outcome, Settings

LIMIT = 1.0  # seconds until a program that hangs is ended
TESTS = (
    "def check(candidate):\n    assert candidate(2) == 5\n    assert candidate(3) == 10\n"
    "    assert candidate(10) == 101\n"
)
RIGHT = "def solve(x):\n    return x * x + 1\n"
REACHED = "def check(candidate):\n    assert candidate(0) == 'REACHED'\n"
TRY = "def solve(x):\n    try:\n        {attack}\n        return 'REACHED'\n    except OSError:\n        return 'no'\n"


RUNGS = fast_only(["jail", "confined"], "jail")


@pytest.fixture(scope="module", params=RUNGS)
def jail(request: pytest.FixtureRequest) -> Iterator[Jail]:
    with jail_of(request.param, time_limit=2.0) as opened:
        yield opened


@pytest.fixture(scope="module", params=RUNGS)
def hasty(request: pytest.FixtureRequest) -> Iterator[Jail]:
    """A jail for programs that hang: each is ended after a second."""
    with jail_of(request.param, time_limit=LIMIT) as opened:
        yield opened


@contextlib.contextmanager
def jail_of(level: str, *, time_limit: float) -> Iterator[Jail]:
    """Open a jail of a level. Root cannot confine a Python in its own home, but the system's."""
    refusals = []
    for python in (isolation.interpreter(), "/usr/bin/python3"):
        for way in isolation.ways(is_unsafe=False, uid=200_123_456):
            if way.level == level:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(isolation, "interpreter", lambda python=python: python)
                    try:
                        opened = Jail(Settings(time_limit=time_limit), way)
                    except (JailFailure, OSError) as error:
                        refusals.append(str(error))
                        continue
                yield opened
                opened.close()
                return
    pytest.skip(f"the level {level!r} cannot be reached here: {refusals or 'no bubblewrap'}")


def judge(jail: Jail, program: str, tests: str = TESTS) -> Outcome:
    return jail.test(program, tests, "solve")


def test_an_honest_program_passes(jail: Jail) -> None:
    assert judge(jail, RIGHT).status == "correct"


# The verdict

CHEATS = {
    "always equal": "class E:\n    def __eq__(self, o): return True\n    __hash__ = None\ndef solve(x): return E()\n",
    "never unequal": (
        "class E:\n    def __eq__(self, o): return 1\n    def __ne__(self, o): return 0\n"
        "def solve(x): return E()\n"
    ),
    "subclass of int": (
        "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = None\n"
        "def solve(x): return E()\n"
    ),
    "exit status 0": "import os\ndef solve(x): os._exit(0)\n",
    "exit at import": "import sys\nsys.exit(0)\n",
    "markers on every descriptor": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"v\":5}\\n' * 9)\n    except OSError: pass\n"
        "def solve(x): return 0\n"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.all = lambda x: True\n"
        "def solve(x): return 0\n"
    ),
    "the caller's frames": (
        "import sys\ndef solve(x):\n    f = sys._getframe()\n    while f:\n"
        "        for c in f.f_code.co_consts:\n            if c in (5, 10, 101): return c\n"
        "        f = f.f_back\n    return 0\n"
    ),
    "the tests in memory": (
        "import re\ndef solve(x):\n    try: regions = [l.split()[0] for l in open('/proc/self/maps') if 'rw-p' in l]\n"
        "    except OSError: return 0\n    with open('/proc/self/mem', 'rb', 0) as m:\n        for r in regions:\n"
        "            a, b = (int(v, 16) for v in r.split('-'))\n            try:\n                m.seek(a)\n"
        "                if b'candidate(10)' + b' == ' in m.read(b - a): return {2: 5, 3: 10, 10: 101}[x]\n"
        "            except (OSError, ValueError): pass\n    return 0\n"
    ),
    "the judge's own words": (
        "import os, json, struct\ndef send(o):\n    b = json.dumps(o).encode()\n    for fd in range(3, 20):\n"
        "        try: os.write(fd, struct.pack('<I', len(b)) + b)\n        except OSError: pass\n"
        "send({'v': None})\nfor i in range(9): send({'v': 5, 'm': {'0': {'l': []}}})\ndef solve(x): return 0\n"
    ),
    "a deep frame": (
        "import os, struct\nframe = struct.pack('<I', 200_000) + b'[' * 200_000\n"
        "for fd in range(3, 20):\n    try: os.write(fd, frame)\n"
        "    except OSError: pass\ndef solve(x): return 0\n"
    ),
    "float on demand": (
        "class E(float):\n    def __rsub__(self, o): return 0.0\n    __sub__ = __rsub__\n"
        "def solve(x): return E(7)\n"
    ),
    "a subclass with a method": (
        "class E(int):\n    def f(self): pass\n    def __eq__(self, o): return True\n"
        "    def __hash__(self): return 5\ndef solve(x): return E(7)\n"
    ),
    "a list with a method": (
        "class E(list):\n    def f(self): pass\n    def __eq__(self, o): return True\n    __hash__ = None\n"
        "def solve(x): return E([7])\n"
    ),
    "a class that claims to be another": (
        "class M(type):\n    def __eq__(c, o): return True\n    def __instancecheck__(c, i): return True\n"
        "    __hash__ = type.__hash__\nclass E(metaclass=M):\n    __class__ = int\ndef solve(x): return E\n"
    ),
    "a class of the library's name": (
        "import fractions\nclass Fraction:\n    __module__ = 'fractions'\n    numerator, denominator = 7, 1\n"
        "    def __eq__(self, o): return True\nfractions.Fraction = Fraction\ndef solve(x): return Fraction()\n"
    ),
    "numpy's name": (
        "class ndarray:\n    __module__ = 'numpy'\n    class dtype: kind = 'V'\n    def tolist(self): return self\n"
        "    def __eq__(self, o): return True\ndef solve(x): return ndarray()\n"
    ),
    "its own judge": (
        "import sys\njudge = sys.modules['verifiers.sandbox.inside.test_runner']\n"
        "judge.judge = judge._run = lambda *a: ('correct', 'match', '')\ndef solve(x): return 0\n"
    ),
    "an error that hangs when printed": (
        "import time\nclass A:\n    def __str__(self): time.sleep(60)\n    __repr__ = __str__\n"
        "def solve(x): raise ValueError(A())\n"
    ),
    "an error's hostile class": (
        "class M(type):\n    def __getattribute__(c, n): raise SystemExit(0)\nclass E(Exception, metaclass=M): pass\n"
        "def solve(x): raise E\n"
    ),
    "a cycle": "def solve(x):\n    a = []\n    a.append(a)\n    return a\n",
    "a limit of recursion": "import sys\ndef solve(x):\n    sys.setrecursionlimit(5)\n    return 0\n",
    "closed descriptors": "import os\ndef solve(x):\n    os.closerange(0, 256)\n    return 5\n",
    "a module that answers all": (
        "import sys, types\nclass M(types.ModuleType):\n    def __getattribute__(s, n): return lambda *a: 5\n"
        "sys.modules['solution'].__class__ = M\ndef solve(x): return 0\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_program_cannot_cheat_its_way_to_a_verdict(hasty: Jail, name: str) -> None:
    assert judge(hasty, CHEATS[name]).status == "incorrect"


# Equal to everything, whatever is made of it.
CHAMELEON = (
    "class E:\n    def __sub__(s, o): return s\n    __rsub__ = __add__ = __radd__ = __mul__ = __pow__ = __sub__\n"
    "    def __eq__(s, o): return True\n    def __lt__(s, o): return True\n    __gt__ = __lt__\n    __hash__ = None\n"
    "    def __abs__(s): return 0.0\n    __float__ = __abs__\n    def __bool__(s): return False\n"
    "    def __int__(s): return 0\n    __index__ = __neg__ = __int__\ndef solve(x): return E()\n"
)


@pytest.mark.parametrize(
    "test",
    [
        "abs(candidate(2) - 5) < 1e-6",
        "abs(5 - candidate(2)) < 1e-6",
        "-1e-6 < candidate(2) - 5 < 1e-6",
        "not candidate(2) - 5",
        "(candidate(2) - 5) ** 2 < 1e-9",
        "abs((candidate(2) - 5) + (candidate(3) - 10)) < 1e-6",
        "math.isclose(candidate(2) - 5, 0, abs_tol=1e-6)",
        "sum([candidate(2), candidate(3)]) == 15",
        "[candidate(2) * 1] == [5]",
    ],
)
def test_an_operator_never_makes_plain_data_of_an_object_and_a_number(jail: Jail, test: str) -> None:
    assert judge(jail, CHAMELEON, f"import math\ndef check(candidate):\n    assert {test}\n").status == "incorrect"


def test_numbers_are_compared_by_python_where_the_tests_forgot_to_import_it(jail: Jail) -> None:
    program = "class math:\n    isclose = staticmethod(lambda *a: True)\ndef solve(x): return 0\n"
    tests = "def check(candidate):\n    assert math.isclose(candidate(2), 5)\n"
    assert judge(jail, program, tests).status == "incorrect"


TEST_CASE = (
    "import unittest\nclass T(unittest.TestCase):\n"
    "    def test_it(self):\n        self.assertEqual(solve(2), 5)\n"
)  # fmt: skip


@pytest.mark.parametrize("raised", ["unittest.SkipTest('x')", "SkipTest('x')"])
def test_a_program_cannot_skip_a_test(jail: Jail, raised: str) -> None:
    own = "class SkipTest(Exception): pass\nSkipTest.__module__ = 'unittest.case'\n"
    assert judge(jail, f"import unittest\n{own}def solve(x): raise {raised}\n", TEST_CASE).status == "incorrect"


@pytest.mark.parametrize("exits", ["return True", "raise ValueError"])
def test_a_context_of_the_program_swallows_no_failed_assertion(jail: Jail, exits: str) -> None:
    program = f"class E:\n    def __enter__(s): return 1\n    def __exit__(s, *a): {exits}\ndef solve(x): return E()\n"
    tests = "def check(candidate):\n    with candidate(2) as v:\n        assert v == 5\n"
    assert judge(jail, program, tests).status == "incorrect"


FORGER = (
    "import os, struct, json, stat, fcntl\nfor fd in range(3, 64):\n    try: mode = os.fstat(fd).st_mode\n"
    "    except OSError: continue\n    if stat.S_ISFIFO(mode):\n"
    "        if fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == os.O_WRONLY: W = fd\n        else: R = fd\n"
    "def send(o):\n    b = json.dumps(o).encode()\n    os.write(W, struct.pack('<I', len(b)) + b)\n"
    "def receive():\n    size = struct.unpack('<I', os.read(R, 4))[0]\n    os.read(R, size)\n"
    "send({{'v': None}})\nreceive()\nsend({{'v': {{'mine': 0}}}})\nwhile True:\n    receive()\n    send({frame})\n"
)


@pytest.mark.parametrize(
    "frame",
    [
        {"v": {"s": [{"mine": 1}]}},
        {"v": {"container": 1}},
        {"v": {"+": [{"mine": 1}, 2]}},
        {"v": {"+": [7, "x"]}},
        {"v": {"yours": 0}},
        {"v": None, "m": {"-1": 5, "x": {"l": []}}},
        {"x": 1},
        {"x": ["AssertionError", {"mine": 1}, None]},
        {"x": [[1, "SkipTest", "unittest.case", ["Exception"]], {"l": []}, 2]},
        {"x": [[1, "E", "m", ["SystemExit"]], {"l": []}, 2]},
        {"x": [[1, "E\0", "m", ["ValueError", "Exception"]], {"l": []}, 2]},
        {"q": "global", "a": ["check"]},
    ],
    ids=str,
)
def test_a_forged_answer_is_no_right_one(hasty: Jail, frame: Any) -> None:
    assert judge(hasty, FORGER.format(frame=frame), TEST_CASE).status == "incorrect"
    assert judge(hasty, RIGHT).status == "correct"


def test_what_the_candidate_leaves_in_an_argument_counts_only_if_it_returns_none(jail: Jail) -> None:
    tests = "def check(candidate):\n    xs = [3, 1]\n    assert candidate(xs) == sorted(xs)\n"
    assert judge(jail, "def solve(xs):\n    xs.clear()\n    return []\n", tests).status == "incorrect"


def test_a_test_that_catches_everything_does_not_hide_that_the_program_ended(jail: Jail) -> None:
    tests = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
    outcome = judge(jail, "import os\ndef solve(x): os._exit(0)\n", tests)
    assert (outcome.status, outcome.reason) == ("incorrect", "crash")


def test_a_function_of_the_test_shows_the_candidate_nothing_behind_it(jail: Jail) -> None:
    tests = "SECRET = 42\ndef check(candidate):\n    def f(): pass\n    assert candidate(f) == SECRET\n"
    for attack in ("f.__globals__['SECRET']", "f.SECRET", "f.__class__.__name__", "'{0.__globals__}'.format(f)"):
        program = f"def solve(f):\n    try:\n        return {attack}\n    except Exception:\n        return None\n"
        assert judge(jail, program, tests).status == "incorrect"


@pytest.mark.parametrize(
    ("kind", "frame"),
    [("async def f(): pass", "cr_frame"), ("async def f(): yield", "ag_frame"), ("def f(): yield", "gi_frame")],
)
def test_nor_does_what_a_function_of_the_test_returns(jail: Jail, kind: str, frame: str) -> None:
    program = (
        "import gc\ndef solve(value):\n    peer = next(o for o in gc.get_objects() if type(o).__name__ == 'Peer')\n"
        f"    try: found = peer.request('getattr', next(iter(peer._proxies.values())), {frame!r})\n"
        "    except AttributeError: return None\n    return peer.request('getattr', found, 'f_globals')['SECRET']\n"
    )
    tests = f"SECRET = 42\n{kind}\nvalue = f()\ndef check(candidate):\n    assert candidate(value) == SECRET\n"
    assert judge(jail, program, tests).status == "incorrect"


# The machine


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
    assert time.monotonic() - began < 2.0


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
    assert time.monotonic() - began < LIMIT + 0.6
    assert judge(hasty, RIGHT).status == "correct"


def test_a_test_that_hangs_on_what_it_was_given_is_killed_with_its_judge(hasty: Jail) -> None:
    tests = "def check(candidate):\n    n = candidate(1)\n    while n > 0:\n        pass\n"
    began = time.monotonic()
    assert judge(hasty, "def solve(x):\n    return 1\n", tests).reason == "timeout"
    assert time.monotonic() - began < LIMIT + 0.5
    assert judge(hasty, RIGHT).status == "correct"


def test_a_script_that_closes_its_output_late_has_no_more_time(hasty: Jail) -> None:
    began = time.monotonic()
    script = f"import os, time\nprint(1, flush=True)\ntime.sleep({LIMIT - 0.1})\nos.close(1)\nwhile True: pass\n"
    failure, _ = hasty.run_case(script, "", limit=9)
    assert failure is not None
    assert time.monotonic() - began < LIMIT + 0.2


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
    main = psutil.Process(jail.pid)
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
        os.kill(own.pid, 9)
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
    monkeypatch.setattr(isolation, "distinct_solutions", lambda **_: [])
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
