"""The judge: the process that runs the tests. The candidate's objects arrive as plain data or proxies, never as code.

One judge serves all samples of a problem: the tests are compiled once, and run in fresh global names for each. The
socket for its verdicts exists in no other process but the host.
"""

from __future__ import annotations

import builtins
import gc
import json
import os
import re
import socket
import sys
import time
import types
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from verifiers.sandbox.inside.candidate import MODULE
from verifiers.sandbox.inside.proxies import Proxy
from verifiers.sandbox.inside.remote_objects import Peer
from verifiers.sandbox.inside.wire import HEADER, Channel

_TESTS_FILE = "tests.py"
# Names that the tests use without an import are imported from here, and not taken from the candidate, which could
# replace what compares numbers.
_COMPARING = {"math": "math", "cmath": "cmath", "np": "numpy", "numpy": "numpy"}
_CALL_OF_CHECK = re.compile(r"^check\(", re.MULTILINE)
Outcome = tuple[str, str, str]  # status, reason, one line on what happened


class Tests(NamedTuple):
    """Compiled tests. `error` says why they cannot be compiled; `lines` are their source, for messages."""

    code: types.CodeType | None
    helpers: types.CodeType | None
    entry_point: str | None
    has_call_of_check: bool
    lines: Sequence[str]
    error: str = ""


def serve(host: socket.socket) -> NoReturn:
    """Read the tests, then judge one candidate after the other until the host closes the socket; end the process.

    A message is a 4-byte length and JSON. For a candidate it comes with two file descriptors, the pipe to read and the
    pipe to write.
    """
    gc.enable()
    tests = prepare(**_read_json(host))
    while True:
        header, fds, _, _ = socket.recv_fds(host, HEADER.size, 2)
        if not header:
            os._exit(0)
        request = json.loads(_read(host, HEADER.unpack(header)[0]))
        channel = Channel(*fds)
        channel.deadline = request["deadline"]
        outcome = judge(tests, channel)
        channel.close()
        body = json.dumps(outcome).encode()
        host.sendall(HEADER.pack(len(body)) + body)


def _read(host: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = host.recv(min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_json(host: socket.socket) -> Any:
    return json.loads(_read(host, HEADER.unpack(_read(host, HEADER.size))[0]))


# The tests


def prepare(tests: str, entry_point: str | None, helpers: str) -> Tests:
    """Compile the tests, and the helpers that the problem itself defines."""
    try:
        code = compile(tests, _TESTS_FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return Tests(None, None, entry_point, False, (), f"the tests are no Python: {error}")
    return Tests(
        code=code,
        helpers=compile(helpers, "helpers.py", "exec", dont_inherit=True) if helpers else None,
        entry_point=entry_point,
        has_call_of_check=_CALL_OF_CHECK.search(tests) is not None,
        lines=tests.splitlines(),
    )


class Names(dict[str, Any]):
    """The global names of the tests: their own, the prompt's, Python's, and then those of the candidate."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(__name__="tests")
        self._peer = peer

    def __missing__(self, name: str) -> Any:
        if name in vars(builtins) or name.startswith("__"):
            raise KeyError(name)
        try:
            value = self[name] = self._imported(name) or self._peer.look_up(name)
        except NameError:
            raise KeyError(name) from None
        self._peer.is_used |= not isinstance(value, Proxy)
        return value

    def _imported(self, name: str) -> Any:
        try:
            return __import__(_COMPARING[name]) if name in _COMPARING else None
        except ImportError:
            return None


# One candidate


def judge(tests: Tests, channel: Channel) -> Outcome:
    """Run the tests against the candidate at the other end of the channel.

    Returns (status, reason, one line on what happened). Only tests that return normally, and have used the candidate,
    are correct.
    """
    peer = Peer(channel, is_judge=True)
    if tests.code is None:
        return "unknown", "bad_reference", tests.error
    try:
        peer.await_start()
        _run(tests, peer)
    except BaseException as error:  # noqa: BLE001  # tests and candidate may raise anything
        return _spoiled(peer) or _failure(error, peer, tests)
    if not peer.is_used:
        return _spoiled(peer) or ("unknown", "bad_reference", "the tests ran without using the program")
    return _spoiled(peer) or ("correct", "match", "")


def _spoiled(peer: Peer) -> Outcome | None:
    """Return the verdict on a candidate that was late or ended early, even where the tests caught the exception."""
    if time.monotonic() > (peer.channel.deadline or 0):
        return "incorrect", "timeout", "the time limit has passed"
    if peer.is_gone:
        return "incorrect", "crash", "the program ended before its tests did"
    return None


def _run(tests: Tests, peer: Peer) -> None:
    names = Names(peer)
    _lend(peer)
    if tests.helpers is not None:
        exec(tests.helpers, names)
    if tests.entry_point is not None:
        candidate = _resolve(tests.entry_point, peer)
        names["candidate"] = candidate
        if tests.entry_point.isidentifier():
            names[tests.entry_point] = candidate
    assert tests.code is not None
    exec(tests.code, names)
    check = names.get("check")
    if isinstance(check, types.FunctionType) and not tests.has_call_of_check:
        _finished(check(names["candidate"]))
    _run_functions(names)


def _lend(peer: Peer) -> None:
    """Make the program importable by the tests as the module `solution`."""

    def look_up(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return peer.look_up(name)
        except NameError:
            raise NoFunction(name) from None

    sys.modules[MODULE] = module = types.ModuleType(MODULE)
    module.__dict__["__getattr__"] = look_up


def _resolve(entry_point: str, peer: Peer) -> Any:
    """Return the candidate's function. For `Solution().method` and `Solution.method` an instance is made first."""
    first, *attributes = entry_point.replace("()", "").split(".")
    try:
        target = peer.look_up(first)
    except NameError:
        raise NoFunction(first) from None
    if attributes:
        target = target()
    for attribute in attributes:
        target = getattr(target, attribute)
    return target


def _run_functions(names: Names) -> None:
    """Run what pytest would find: functions and methods called test*, and unittest's test cases."""
    unittest = sys.modules.get("unittest")  # not there unless the tests import it
    for name, value in list(names.items()):
        if isinstance(value, types.FunctionType) and name.startswith("test"):
            _run_function(value)
        elif unittest is not None and isinstance(value, type) and issubclass(value, unittest.TestCase):
            _run_case(unittest, value)
        elif isinstance(value, type) and name.startswith("Test"):
            for method in [method for method in vars(value) if method.startswith("test")]:
                _run_method(value(), method)


def _run_method(instance: Any, method: str) -> None:
    getattr(instance, "setup_method", int)()
    try:
        _run_function(getattr(instance, method))
    finally:
        getattr(instance, "teardown_method", int)()


def _run_function(function: Any) -> None:
    """Call a test, once for each set of pytest's parameters; skip one with other arguments, such as fixtures."""
    code = function.__code__
    wanted = code.co_argcount - isinstance(function, types.MethodType) - len(function.__defaults__ or ())
    for given in _parameters(function):
        if len(given) >= wanted:
            _finished(function(**given))


def _parameters(function: Any) -> list[dict[str, Any]]:
    """Return the arguments of each call: the product of all `pytest.mark.parametrize` of a function."""
    sets: list[dict[str, Any]] = [{}]
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            names, rows = mark.args[:2]
            names = names.replace(",", " ").split() if isinstance(names, str) else names
            rows = [_values(row, len(names)) for row in rows]
            sets = [{**given, **dict(zip(names, row, strict=True))} for given in sets for row in rows]
    return sets


def _values(row: Any, count: int) -> Any:
    if hasattr(row, "marks"):  # pytest.param
        return row.values
    return row if count > 1 else (row,)


def _finished(result: Any) -> None:
    """Run the coroutine of an asynchronous test."""
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)


def _run_case(unittest: Any, case: Any) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    if not result.wasSuccessful():
        raise AssertionError((result.failures + result.errors)[0][1].strip().rpartition("\n")[2])


class NoFunction(Exception):
    """The program does not define the name under test."""


def _failure(error: BaseException, peer: Peer, tests: Tests) -> Outcome:
    if isinstance(error, NoFunction):
        return "incorrect", "no_answer", f"the program does not define {error}"
    detail = _detail(error, tests.lines)
    if error is peer.raised:
        return "incorrect", "forbidden" if isinstance(error, PermissionError) else "crash", detail
    if isinstance(error, NameError):
        return "incorrect", "no_answer", detail
    if isinstance(error, ImportError):
        return "unknown", "fault", f"the tests import what is not here: {error}"
    return "incorrect", "mismatch", detail


_DETAIL_LIMIT = 300


def _detail(error: BaseException, lines: Sequence[str]) -> str:
    """Return "AssertionError: message (assert candidate(2) == 5)", the line being the last one of the tests."""
    try:
        message = f"{type(error).__name__}: {error}".rstrip(": ")
    except BaseException:  # noqa: BLE001  # the message may hold an object of the candidate's
        message = type(error).__name__
    number = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TESTS_FILE:
            number = trace.tb_lineno
        trace = trace.tb_next
    where = f" ({lines[number - 1].strip()})" if 0 < number <= len(lines) else ""
    return (message + where)[:_DETAIL_LIMIT]
