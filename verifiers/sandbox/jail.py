"""The host's side of a jail: starts it, sends programs and tests, receives verdicts, ends what takes too long.

Processes: the host (this one, a worker of the pool) starts a zygote inside the jail. The zygote forks one judge for
the tests of a problem and one candidate for each program. Host and zygote exchange small JSON messages; programs,
tests and verdicts travel by file descriptors that the zygote only passes on.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from verifiers.sandbox import isolation
from verifiers.sandbox.inside.cleanup import empty
from verifiers.sandbox.inside.lockdown import landlock_abi
from verifiers.sandbox.inside.wire import HEADER
from verifiers.sandbox.isolation import Way

# Seconds that a jail may take to start.
_START_LIMIT = 20.0
# After the time limit the judge has this long to report it before it is killed.
_JUDGE_GRACE = 0.03
# A zygote that does not answer for this long is killed with the whole jail.
_ZYGOTE_LIMIT = 5.0
# Where the end of a candidate and the removal of its files take longer than this, a new jail is faster.
_SETTLE_LIMIT = 0.3
# A script that has closed its output has this long to end by itself.
_EXIT_GRACE = 0.5
_SCRATCH_PREFIX = "verifiers-judge-"
_FIRST_PRIVATE_UID, _PRIVATE_UIDS = 200_000_000, 1_000_000


class NoSandbox(RuntimeError):
    """No sandbox level works on this machine; the message says why, and what would help."""


class JailFailure(RuntimeError):
    """The jail died or did not answer, which is a fault of the verifier and not of the candidate."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a jail, which hold for every program in it: limits, modules to import once, no sandbox."""

    time_limit: float = 5.0
    memory_mb: int = 1024
    preload: tuple[str, ...] = ()
    is_unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one program: a status and a reason as in `Verdict`, and one line on what happened."""

    status: str
    reason: str
    detail: str = ""


class Jail:
    """A sandbox with a zygote in it. For one thread at a time; ended by `close` and by the death of the host.

    Args:
        settings: Limits and what to preload.
        way: How to start it.

    Raises:
        JailFailure: This way does not work here; the message is what the jail wrote to standard error.
    """

    def __init__(self, settings: Settings, way: Way) -> None:
        self.way, self._settings = way, settings
        self._scratch = "/tmp" if way.level == "jail" else _new_scratch()
        if way.uid is not None and way.level != "jail":
            os.chown(self._scratch, way.uid, way.uid)
        self._socket, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        user = way.uid if way.becomes_private_first else None
        with inner:
            self._process = subprocess.Popen(
                isolation.command(way, socket_fd=inner.fileno(), settings=json.dumps(self._for_zygote())),
                env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **isolation.LINKING},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[inner.fileno()],
                start_new_session=True,  # no terminal of the user's to read or write
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        self._judge: socket.socket | None = None
        self._judge_key: Any = None
        self._is_ending = False
        try:
            self._say("hello")
            self._reply(_START_LIMIT)
        except JailFailure:
            error = self.close()
            raise JailFailure(f"{way.level}: {error or 'the zygote did not start'}") from None

    def _for_zygote(self) -> dict[str, Any]:
        is_locked = self.way.level != "unsafe"
        return {
            "uid": None if self.way.becomes_private_first else self.way.uid,
            "scratch": self._scratch,
            "seconds": self._settings.time_limit,
            "memory_mb": self._settings.memory_mb,
            # `confined` needs Landlock, and fails without it; a jail has its mounts.
            "landlock": is_locked and (landlock_abi() > 0 or self.way.level == "confined"),
            "seccomp": is_locked,
            "readable": isolation.readable(self.way),
            "packages": isolation.packages(self.way),
            "preload": self._settings.preload,
            "tasks_of_others": 0 if self.way.level == "jail" or self.way.uid else _own_tasks(),
        }

    # Running programs

    def test(self, program: str, tests: str, entry_point: str | None, helpers: str = "") -> Outcome:
        """Run tests in the judge against a program in a process of its own; raise JailFailure.

        `entry_point` is the name of the function under test, None where the tests call it by that name; `helpers` is
        source that the tests use besides.
        """
        self.settle()
        judge = self._judge_for(tests, entry_point, helpers)
        deadline = time.monotonic() + self._settings.time_limit
        calls_read, calls_write = os.pipe()
        returns_read, returns_write = os.pipe()
        # Two pipes: judge -> candidate for calls, candidate -> judge for what they return.
        with _closing(calls_read, calls_write, returns_read, returns_write):
            os.set_blocking(calls_write, False)
            body = json.dumps({"deadline": deadline}).encode()
            try:
                socket.send_fds(judge, [HEADER.pack(len(body))], [returns_read, calls_write])
                judge.sendall(body)
            except OSError as error:
                self._drop_judge()
                raise JailFailure(f"the judge is gone: {error}") from None
            with _text_file(program) as text:
                self._say("call", fds=[text, calls_read, returns_write])
        outcome = self._verdict(judge, deadline + _JUDGE_GRACE)
        self._end(grace=0.0, reports=False)
        return outcome

    def run_case(self, program: str, stdin: str, limit: int) -> tuple[Outcome | None, str]:
        """Run a program as a script with the standard input `stdin`.

        Returns (what went wrong or None, its output). A program that prints more than `limit` bytes is ended.
        Raises JailFailure.
        """
        self.settle()
        deadline = time.monotonic() + self._settings.time_limit
        read, write = os.pipe()
        with _closing(write), _text_file(stdin) as given, _text_file(program) as text:
            self._say("main", fds=[text, given, write])
        with _closing(read):
            printed, is_whole = _read_until(read, deadline, limit)
        is_late = not is_whole and len(printed) <= limit
        left = max(0.0, deadline - time.monotonic())
        self._end(grace=min(left, _EXIT_GRACE) if is_whole else 0.0, reports=True)
        status = self._reply(_ZYGOTE_LIMIT)["status"]
        output = printed.decode("utf-8", "replace")
        if is_late:
            return Outcome("incorrect", "timeout", "the time limit has passed"), output
        if not is_whole:
            return Outcome("incorrect", "mismatch", f"it printed more than {limit} bytes"), output
        return (Outcome("incorrect", "crash", f"exit status {status}") if status else None), output

    def _judge_for(self, tests: str, entry_point: str | None, helpers: str) -> socket.socket:
        """Return the socket of the judge for these tests, forked anew unless the last program had the same tests."""
        key = (tests, entry_point, helpers)
        if self._judge is None or self._judge_key != key:
            self._drop_judge()
            ours, inner = socket.socketpair()
            with inner:
                self._say("judge", fds=[inner.fileno()])
            body = json.dumps({"tests": tests, "entry_point": entry_point, "helpers": helpers}).encode()
            self._judge, self._judge_key = ours, key
            ours.sendall(HEADER.pack(len(body)) + body)
        return self._judge

    def _verdict(self, judge: socket.socket, deadline: float) -> Outcome:
        """Return the judge's verdict. A judge that is late is killed: the tests hang in an object of the candidate."""
        body = b""
        size = HEADER.size
        while len(body) < size:
            if not _is_readable(judge.fileno(), deadline - time.monotonic()):
                self._drop_judge()
                return Outcome("incorrect", "timeout", "the time limit has passed")
            part = judge.recv(size - len(body))
            if not part:
                self._drop_judge()
                raise JailFailure("the judge died")
            body += part
            if len(body) == HEADER.size:
                size += HEADER.unpack(body)[0]
        status, reason, detail = json.loads(body[HEADER.size :])
        return Outcome(status, reason, detail.encode("utf-8", "backslashreplace").decode())

    def _drop_judge(self) -> None:
        if self._judge is not None:
            self._judge.close()
            self._judge = self._judge_key = None
            self._say("end_judge")

    # Messages to the zygote

    def _end(self, *, grace: float, reports: bool) -> None:
        self._say("end", grace=grace, reports=reports)
        self._is_ending = True

    def settle(self) -> None:
        """Wait until the zygote has ended the last candidate and removed its files; raise JailFailure."""
        if self._is_ending:
            self._is_ending = False
            self._reply(_SETTLE_LIMIT)

    def _say(self, do: str, fds: Sequence[int] = (), **values: Any) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps({"do": do, **values}).encode()], fds)
        except OSError as error:
            raise JailFailure(f"the jail is gone: {error}") from None

    def _reply(self, limit: float) -> dict[str, Any]:
        if not _is_readable(self._socket.fileno(), limit):
            raise JailFailure(f"the jail did not answer within {limit:g} s")
        try:
            body = self._socket.recv(4096)
        except ConnectionResetError:
            body = b""
        if not body:
            raise JailFailure("the jail is gone")
        reply: dict[str, Any] = json.loads(body)
        return reply

    def close(self) -> str:
        """End every process in the jail; return what it wrote to standard error."""
        if self._judge is not None:
            self._judge.close()
        self._socket.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            error = stream.read().decode(errors="replace").strip() if _is_readable(stream.fileno(), 0.2) else ""
        if self.way.level != "jail":
            _remove(self._scratch)
        return error.rpartition("\n")[2]


def _new_scratch() -> str:
    """Return a new folder, named after this process, and remove folders of processes that no longer exist."""
    for name in os.listdir(tempfile.gettempdir()):
        owner = re.fullmatch(rf"{_SCRATCH_PREFIX}(\d+)-.*", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            _remove(os.path.join(tempfile.gettempdir(), name))
    return tempfile.mkdtemp(prefix=f"{_SCRATCH_PREFIX}{os.getpid()}-")


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):  # another user's, or gone
        os.chmod(folder, 0o700)
        empty(folder)
        os.rmdir(folder)


def _own_tasks() -> int:
    """Return the number of tasks of this user, because the limit on tasks counts all of a user's."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


@contextlib.contextmanager
def _closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def _text_file(text: str) -> Iterator[int]:
    """Yield a file descriptor of an anonymous file that holds the text, positioned at its start."""
    fd = os.memfd_create("text", os.MFD_CLOEXEC)
    with _closing(fd):
        data = memoryview(text.encode("utf-8", "surrogatepass"))
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd


def _is_readable(fd: int, seconds: float) -> bool:
    """Wait for something to read. By poll, because select takes no descriptor above 1,023."""
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return seconds > 0 and bool(waiting.poll(seconds * 1000))


def _read_until(fd: int, deadline: float, limit: int) -> tuple[bytes, bool]:
    """Return (bytes read until the deadline or more than `limit` of them, whether the writer closed the pipe)."""
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        if not _is_readable(fd, deadline - time.monotonic()):
            return b"".join(parts), False
        part = os.read(fd, 1 << 18)
        if not part:
            return b"".join(parts), True
        parts.append(part)
        size += len(part)
    return b"".join(parts), False


# The jail of this process

_lock = threading.RLock()
_jail: Jail | None = None
_jail_key: Any = None


def warm(settings: Settings) -> None:
    """Start this process's jail unless one with these settings runs; raise NoSandbox."""
    global _jail, _jail_key
    key = (settings, os.getpid())
    with _lock:
        if _jail_key != key:
            if _jail is not None and _jail_key[1] == os.getpid():
                _jail.close()
            _jail, _jail_key = None, None
            _jail, _jail_key = open_jail(settings), key


@contextlib.contextmanager
def borrowed(settings: Settings) -> Iterator[Jail]:
    """Yield this process's jail, which is started once and kept. After an exception it is closed, and made anew."""
    global _jail, _jail_key
    with _lock:
        warm(settings)
        assert _jail is not None
        try:
            yield _jail
        except BaseException:
            # In a thread, because its files may take seconds to remove.
            threading.Thread(target=_jail.close).start()
            _jail = _jail_key = None
            raise


def open_jail(settings: Settings) -> Jail:
    """Return a jail on the strongest level that works here; raise NoSandbox."""
    refusals = []
    isolation.compile_inside()
    uid = _FIRST_PRIVATE_UID + os.getpid() % _PRIVATE_UIDS
    for way in isolation.ways(is_unsafe=settings.is_unsafe, uid=uid):
        try:
            return Jail(settings, way)
        except (JailFailure, OSError) as error:
            refusals.append(str(error))
    raise NoSandbox(f"no sandbox holds here; {isolation.advice()} ({'; '.join(refusals) or 'nothing to try'})")


def reached() -> tuple[str | None, str]:
    """Return (the sandbox level of this machine or None, what the user can do for a higher one)."""
    try:
        jail = open_jail(Settings())
    except NoSandbox as error:
        return None, str(error)
    jail.close()
    return jail.way.level, "" if jail.way.level == "jail" else isolation.advice()


@atexit.register
def _close() -> None:
    if _jail is not None and _jail_key[1] == os.getpid():
        _jail.close()
