"""Programs that cheat: each test attacks one property of the verdict, in every level that this machine has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.verifiers.sandbox.jails import RIGHT, judge
from verifiers.sandbox.jail import Jail


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
