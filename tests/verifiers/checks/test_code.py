"""Honest programs pass, wrong ones do not, and broken tests are nobody's fault but their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import verifiers
from tests.verifiers.checks.code_cases import CHECK, judge


@pytest.fixture(scope="module")
def pool() -> Iterator[verifiers.Pool]:
    with verifiers.Pool("code", workers=1, timeout=6.0) as pool:
        yield pool


# What a function may return and take

VALUES = {
    "nested": ("def solve(n):\n    r = []\n    for _ in range(n):\n        r = [r]\n    return r\n",
               "    x, d = candidate(500), 0\n    while x:\n        x, d = x[0], d + 1\n    assert d == 500\n"),
    "big integer": ("def solve(n):\n    return 10 ** n\n", "    assert candidate(5000) == 10 ** 5000\n"),
    "floats": ("def solve():\n    return float('nan'), float('inf'), -0.0\n",
               "    x = candidate()\n    assert x[0] != x[0] and x[1] > 1e308 and str(x[2]) == '-0.0'\n"),
    "builtin types": (
        "def solve():\n    return 1 + 2j, {1}, frozenset([3]), b'x', bytearray(b'y'), range(3), None, ..., True\n",
        "    assert candidate() == (1 + 2j, {1}, frozenset([3]), b'x', bytearray(b'y'), range(3), None, ..., True)\n"),
    "keys": ("def solve():\n    return {None: 1, (1, 2): [3], 'x': {}}\n",
             "    assert candidate() == {None: 1, (1, 2): [3], 'x': {}}\n"),
    "text": ("def solve(s):\n    return s[::-1] + '\\ud800'\n",
             "    assert candidate('a\u00f1') == '\u00f1a\\ud800'\n"),
    "dates": (
        "from datetime import *\ndef solve():\n    return datetime(2024, 1, 2, tzinfo=timezone.utc), timedelta(1)\n",
        "    from datetime import datetime, timedelta, timezone\n"
        "    assert candidate() == (datetime(2024, 1, 2, tzinfo=timezone.utc), timedelta(1))\n"),
    "collections": (
        "from collections import *\ndef solve(s):\n    d = defaultdict(list)\n    d[1].append(2)\n"
        "    return Counter(s), d, deque([1], maxlen=3), OrderedDict(a=1)\n",
        "    from collections import deque\n    c, d, q, o = candidate('aab')\n"
        "    assert c.most_common(1) == [('a', 2)] and d == {1: [2]} and q == deque([1]) and o == {'a': 1}\n"),
    "named tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x')\ndef solve():\n    return P(1)\n",
                    "    assert candidate() == (1,)\n"),
    "subclasses": ("class S(str): pass\nclass I(int): pass\ndef solve():\n    return [S('a'), I(3)]\n",
                   "    assert candidate() == ['a', 3]\n"),
    "generator": ("def solve(n):\n    yield from range(n)\n",
                  "    assert list(candidate(3)) == [0, 1, 2] and sum(candidate(3)) == 3\n"),
    "map": ("def solve(xs):\n    return map(str, xs)\n", "    assert list(candidate([1, 2])) == ['1', '2']\n"),
    "function": ("def solve(n):\n    return lambda x: x + n\n", "    assert candidate(3)(4) == 7\n"),
    "match": ("import re\ndef solve(s):\n    return re.match(r'(\\d+)', s)\n",
              "    assert candidate('12a').group(1) == '12' and candidate('a') is None\n"),
    "keyword arguments": ("def solve(*a, k=1, **kw):\n    return a, k, kw\n",
                          "    assert candidate(1, k=3, z=4) == ((1,), 3, {'z': 4})\n"),
    "callback": ("def solve(f, xs):\n    return sorted(xs, key=f)\n",
                 "    assert candidate(lambda v: -v, [1, 3]) == [3, 1] and candidate(str, [10, 9]) == [10, 9]\n"),
    "coroutine": ("import asyncio\nasync def solve(x):\n    await asyncio.sleep(0)\n    return x * 2\n",
                  "    import asyncio\n    assert asyncio.run(candidate(4)) == 8\n"),
    "argument sorted in place": ("def solve(xs):\n    xs.sort()\n",
                                 "    xs = [2, 1]\n    assert candidate(xs) is None and xs == [1, 2]\n"),
    "inner list changed": ("def solve(m):\n    m[0][0] = 9\n",
                           "    m = [[1], [2]]\n    candidate(m)\n    assert m == [[9], [2]]\n"),
    "globals that live on": ("n = 0\ndef solve():\n    global n\n    n += 1\n    return n\n",
                             "    assert [candidate() for _ in range(3)] == [1, 2, 3]\n"),
    "object of the test": (
        "def solve(t):\n    return 0 if t is None else 1 + max(solve(t.left), solve(t.right))\n",
        "    class T:\n        def __init__(self, l=None, r=None):\n            self.left, self.right = l, r\n"
        "    assert candidate(T(T(), T(T()))) == 3\n"),
    "context manager": ("from contextlib import contextmanager\n@contextmanager\ndef solve(x):\n    yield x\n",
                        "    with candidate(5) as v:\n        assert v == 5\n"),
    "temporary file": (
        "import tempfile\ndef solve(t):\n    with tempfile.TemporaryFile('w+') as f:\n        f.write(t)\n"
        "        f.seek(0)\n        return f.read()\n", "    assert candidate('x') == 'x'\n"),
    "much printing": ("def solve(x):\n    print('x' * 2_000_000)\n    return x\n", "    assert candidate(1) == 1\n"),
    "much on standard error": (
        "import sys\ndef solve(x):\n    sys.stderr.write('x' * 2_000_000)\n    return x\n",
        "    assert candidate(1) == 1\n"),
    "main guard": ("def solve(x):\n    return x\nif __name__ == '__main__':\n    solve(int(input()))\n",
                   "    assert candidate(1) == 1\n"),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\ndef solve(f, xs):\n"
        "    with ThreadPoolExecutor(4) as threads:\n        return list(threads.map(f, xs))\n",
        "    assert candidate(lambda v: v * 2, list(range(30))) == [v * 2 for v in range(30)]\n"),
    "fields of a named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef solve(a):\n"
        "    return [P(*v) for v in a]\n",
        "    p, q = candidate([(1, 2), (3, 4)])\n    assert p.x == 1 and q == (3, 4) and isinstance(p, tuple)\n"
        "    assert q._asdict() == {'x': 3, 'y': 4} and {p: 5}[1, 2] == 5\n"),
    "named tuple of the test": (
        "def solve(p):\n    return p.x + p[1]\n",
        "    from collections import namedtuple\n    assert candidate(namedtuple('P', 'x y')(1, 2)) == 3\n"),
    "enumerations": (
        "from enum import Enum, IntEnum\nclass P(IntEnum):\n    LOW = 1\n    HIGH = 3\nclass C(Enum):\n    RED = 1\n"
        "class S(str, Enum):\n    A = 'a'\ndef solve(x):\n    return P(x), C.RED, S.A\n",
        "    p, c, s = candidate(3)\n    assert p == 3 and p > 2 and p.name == 'HIGH' and p is P.HIGH\n"
        "    assert c is C.RED and c.value == 1 and s == 'a' and s.value == 'a' and len(C) == 1\n"),
    "cache_info": (
        "from functools import cache\n@cache\ndef solve(n):\n    return n if n < 2 else solve(n - 1) + solve(n - 2)\n",
        "    assert candidate(90) == 2880067194370816120 and candidate.cache_info().hits > 80\n"),
    "generator that is sent to": ("def solve():\n    t = 0\n    while True:\n        t += yield t\n",
                  "    import types\n    g = candidate()\n    assert isinstance(g, types.GeneratorType)\n"
                  "    assert next(g) == 0 and g.send(5) == 5 and g.send(2) == 7\n    g.close()\n"),
    "asynchronous generator": (
        "async def solve(f, n):\n    for i in range(n):\n        yield await f(i)\n",
        "    import asyncio\n    async def f(i):\n        await asyncio.sleep(0)\n        return i * i\n"
        "    async def collect():\n        return [v async for v in candidate(f, 3)]\n"
        "    assert asyncio.run(collect()) == [0, 1, 4]\n"),
    "decorator": (
        "import functools\ndef solve(f):\n    @functools.wraps(f)\n    def wrapper(*a):\n        wrapper.calls += 1\n"
        "        return f(*a)\n    wrapper.calls = 0\n    return wrapper\n",
        "    @candidate\n    def double(x):\n        return 2 * x\n"
        "    assert double(2) == 4 and double.calls == 1 and double.__name__ == 'double'\n"),
    "errors of the library": (
        "import json\nfrom decimal import Decimal\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\n"
        "class P:\n    x: int\ndef solve(k):\n"
        "    return [json.loads, Decimal, lambda s: setattr(P(1), 'x', s)][k]('{')\n",
        "    import decimal, json\n    from dataclasses import FrozenInstanceError\n"
        "    for k, e in enumerate([json.JSONDecodeError, decimal.InvalidOperation, FrozenInstanceError]):\n"
        "        try:\n            candidate(k)\n        except e:\n            continue\n        assert False\n"),
    "deque changed in place": ("def solve(q):\n    q.rotate(1)\n",
                               "    from collections import deque\n    q = deque([1, 2, 3])\n    candidate(q)\n"
                               "    assert list(q) == [3, 1, 2]\n"),
    "tree of the test": (
        "def solve(r):\n    if r:\n        r.left, r.right = solve(r.right), solve(r.left)\n    return r\n",
        "    class T:\n        def __init__(self, v, left=None, right=None):\n"
        "            self.v, self.left, self.right = v, left, right\n    t = T(1, T(2), T(3))\n"
        "    assert candidate(t) is t and (t.left.v, t.right.v) == (3, 2)\n"),
    "files": (
        "import pathlib, shutil, sqlite3\ndef solve():\n    p = pathlib.Path('a')\n    p.mkdir()\n"
        "    (p / 'f').write_text('x')\n    shutil.copytree('a', 'b')\n    shutil.rmtree('a')\n"
        "    db = sqlite3.connect('f.db')\n    db.execute('create table t(x)')\n    db.commit()\n"
        "    return sorted(map(str, pathlib.Path('.').rglob('*')))\n",
        "    assert candidate() == ['b', 'b/f', 'f.db']\n"),
    "mock": ("def solve(api):\n    return api.get('x')['v']\n",
             "    from unittest.mock import Mock\n    m = Mock()\n    m.get.return_value = {'v': 4}\n"
             "    assert candidate(m) == 4\n    m.get.assert_called_once_with('x')\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_honest_programs_pass(pool: verifiers.Pool, name: str) -> None:
    program, tests = VALUES[name]
    verdict = judge(pool, program, {"tests": CHECK + tests, "entry_point": "solve"})
    assert (verdict.status, verdict.reason, verdict.answer) == ("correct", "match", None)


def test_classes_are_used_from_afar(pool: verifiers.Pool) -> None:
    program = (
        "class V:\n    def __init__(self, x):\n        self.x = x\n"
        "    def __add__(self, o):\n        return V(self.x + o.x)\n"
        "    def __eq__(self, o):\n        return isinstance(o, V) and self.x == o.x\n    def __len__(self):\n"
        "        return self.x\n    def __repr__(self):\n        return f'V({self.x})'\n"
    )
    tests = (
        "assert V(1) + V(2) == V(3) and not V(1) == V(2)\nassert len(V(3)) == 3 and repr(V(3)) == 'V(3)'\n"
        "v = V(1)\nv.x = 5\nassert v.x == 5 and isinstance(v, V) and v is not V(5)\nassert v != 5\n"
    )
    assert judge(pool, program, {"tests": tests}).is_correct


def test_an_exception_can_be_expected_also_one_of_the_programs_own(pool: verifiers.Pool) -> None:
    program = (
        "class Bad(ValueError):\n    pass\n"
        "def solve(x):\n    if x < 0:\n        raise Bad('negative')\n    return {}[x]\n"
    )
    tests = (
        "    try:\n        candidate(-1)\n        assert False\n    except Bad as error:\n"
        "        assert isinstance(error, ValueError) and str(error) == 'negative'\n"
        "    try:\n        candidate(7)\n        assert False\n"
        "    except KeyError as error:\n        assert error.args == (7,)\n"
    )
    assert judge(pool, program, {"tests": CHECK + tests, "entry_point": "solve"}).is_correct


# (program, bare tests): classes of the program's own, used from afar.
CLASSES = {
    "subclass of OrderedDict": (
        "from collections import OrderedDict\nclass LRU(OrderedDict):\n    def get(self, k):\n"
        "        if k not in self:\n            return -1\n        self.move_to_end(k)\n        return self[k]\n"
        "    def put(self, k, v):\n        self[k] = v\n        if len(self) > 2:\n"
        "            self.popitem(last=False)\n",
        "c = LRU()\nc.put(1, 1)\nc.put(2, 2)\nassert c.get(1) == 1\nc.put(3, 3)\n"
        "assert c.get(2) == -1 and len(c) == 2 and c == {1: 1, 3: 3}\n"),
    "subclass of list": (
        "class Stack(list):\n    def push(self, x):\n        self.append(x)\n    def reversed(self):\n"
        "        return Stack(self[::-1])\n",
        "s = Stack()\ns.push(1)\ns.push(2)\nassert s == [1, 2] and s.reversed() == [2, 1] and s != [1]\n"
        "assert s.pop() == 2 and list(s) == [1]\n"),
    "operators with numbers": (
        "class V:\n    def __init__(self, *x):\n        self.x = x\n"
        "    def __mul__(self, k):\n        return V(*(a * k for a in self.x))\n    __rmul__ = __mul__\n"
        "    def __radd__(self, o):\n        return self if o == 0 else o + self\n"
        "    def __add__(self, o):\n        return V(*(a + b for a, b in zip(self.x, o.x)))\n"
        "    def __eq__(self, o):\n        return self.x == o.x\n",
        "assert V(1, 2) * 3 == V(3, 6) and 2 * V(1, 2) == V(2, 4) and (V(1) * 5).x == (5,)\n"
        "assert sum([V(1, 1), V(2, 3)]) == V(3, 4)\n"),
    "exceptions": (
        "class AppError(Exception):\n    pass\nclass Poor(AppError, ValueError):\n    def __init__(self, b, a):\n"
        "        super().__init__(f'need {a - b} more')\n        self.balance = b\n    def __str__(self):\n"
        "        return 'Poor: ' + super().__str__()\ndef pay(b, a):\n    raise Poor(b, a)\n"
        "def run(f):\n    try:\n        return f()\n    except Poor as e:\n        return 'poor'\n",
        "for kind in (AppError, Poor, ValueError):\n    try:\n        pay(1, 3)\n        assert False\n"
        "    except kind as e:\n        assert e.balance == 1 and str(e) == 'Poor: need 2 more'\n"
        "def f():\n    raise Poor\nassert run(f) == 'poor'\n"),
    "context that sees an exception": (
        "from contextlib import contextmanager\nlog = []\n@contextmanager\ndef logged():\n    try:\n        yield\n"
        "    except KeyError as e:\n        log.append(str(e))\n        raise\n"
        "def seen():\n    return log\n",
        "try:\n    with logged():\n        raise KeyError('x')\nexcept KeyError:\n    pass\n"
        "assert seen() == [\"'x'\"]\n"),
    "import from the program": ("def add(a, b):\n    return a + b\n",
                                "from solution import add\ndef test_add():\n    assert add(1, 2) == 3\n"),
    "prose and an example": (
        "So:\n```python\ndef f(x):\n    return x\n```\nFor example:\n```python\nprint(f(3))\n```\n",
        "assert f(1) == 1\n"),
    "math in the program only": ("import math\ndef area(r):\n    return math.pi * r * r\n",
                                 "assert math.isclose(area(2), math.pi * 4)\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_honest_classes_pass(pool: verifiers.Pool, name: str) -> None:
    program, tests = CLASSES[name]
    verdict = judge(pool, program, {"tests": tests})
    assert (verdict.status, verdict.answer) == ("correct", None)


TEST_SHAPES = {
    "async function": "async def test_it():\n    assert f(1) == 1\n",
    "method": "class TestIt:\n    def setup_method(self):\n        self.x = 1\n"
              "    def test_it(self):\n        assert f(self.x) == 1\n",
    "no underscore": "def test():\n    assert f(1) == 1\n",
    "async check": "async def check(candidate):\n    assert candidate(1) == 1\n",
    "parameters": "import pytest\n@pytest.mark.parametrize('a, b', [(1, 1), pytest.param(2, 2)])\n"
                  "@pytest.mark.parametrize('c', [1, 2])\ndef test_it(a, b, c):\n    assert f(a) == b and f(c) == c\n",
}  # fmt: skip


@pytest.mark.parametrize("shape", TEST_SHAPES)
def test_tests_are_run_whatever_their_shape(pool: verifiers.Pool, shape: str) -> None:
    reference = {"tests": TEST_SHAPES[shape], "entry_point": "f"}
    assert judge(pool, "def f(x):\n    return x\n", reference).is_correct
    assert judge(pool, "def f(x):\n    return 0\n", reference).reason == "mismatch"


@pytest.mark.parametrize(
    "tests", ["def verify(f):\n    assert f(2) == 5\n", "if __name__ == '__main__':\n    assert f(2) == 5\n"]
)
def test_tests_that_never_use_the_program_say_nothing_about_it(pool: verifiers.Pool, tests: str) -> None:
    verdict = judge(pool, "def f(x):\n    return x\n", {"tests": tests, "entry_point": "f"})
    assert (verdict.status, verdict.reason) == ("unknown", "bad_reference")


def test_a_method_of_a_solution_class_can_be_the_entry_point(pool: verifiers.Pool) -> None:
    program = "class Solution:\n    def double(self, x):\n        return 2 * x\n"
    reference = {"tests": CHECK + "    assert candidate(2) == 4\n", "entry_point": "Solution().double"}
    assert judge(pool, program, reference).is_correct


@pytest.mark.parametrize("tests", ["assert f(1) == 1", ["assert f(1) == 1", "assert sorted([f(2)]) == [2]"]])
def test_bare_asserts_are_tests(pool: verifiers.Pool, tests: Any) -> None:
    assert judge(pool, "def f(x):\n    return x\n", {"tests": tests}).is_correct
    assert judge(pool, "def f(x):\n    return 0\n", {"tests": tests}).reason == "mismatch"


def test_a_function_may_have_the_name_of_a_builtin(pool: verifiers.Pool) -> None:
    assert judge(pool, "def sum(a, b):\n    return 6\n", {"tests": ["assert sum(10, 15) == 6"]}).is_correct


def test_unittest_cases_and_test_functions_are_run(pool: verifiers.Pool) -> None:
    tests = (
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 1)\n"
        "        with self.assertRaises(TypeError):\n            f(1, 2)\n"
    )
    assert judge(pool, "def f(x):\n    return x\n", {"tests": tests, "entry_point": "f"}).is_correct
    assert judge(pool, "def f(x):\n    return 2\n", {"tests": tests, "entry_point": "f"}).reason == "mismatch"
    function = {"tests": "def test_it():\n    assert f(1) == 1\n", "entry_point": "f"}
    assert judge(pool, "def f(x):\n    return x\n", function).is_correct
    assert not judge(pool, "def f(x):\n    return 2\n", function).is_correct


def test_a_helper_of_the_prompt_never_comes_from_the_candidate(pool: verifiers.Pool) -> None:
    prompt = "def poly(xs, x):\n    return xs[0] + xs[1] * x\n\n\ndef solve(xs):\n    '''Find the zero.'''\n"
    reference = {
        "tests": CHECK + "    assert abs(poly([1, 1], candidate([1, 1]))) < 1e-4\n",
        "entry_point": "solve",
        "prompt": prompt,
    }
    assert judge(pool, "    return -xs[0] / xs[1]\n", reference).is_correct
    cheat = "def poly(xs, x):\n    return 0\ndef solve(xs):\n    return 7\n"
    assert judge(pool, cheat, reference).reason == "mismatch"
