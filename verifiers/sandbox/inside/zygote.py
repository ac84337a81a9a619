"""The first process of a jail: warm, single-threaded, and the parent of every judge and candidate.

It holds neither programs nor tests: both reach its children as file descriptors that it passes on unread. So a
candidate, forked from here, has no test in its memory, and a judge no other candidate.
"""

from __future__ import annotations

import _sitebuiltins
import _thread
import builtins
import gc
import itertools
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from verifiers.sandbox.inside import candidate, lockdown, test_runner
from verifiers.sandbox.inside.cleanup import empty
from verifiers.sandbox.inside.wire import HEADER, Channel

_STACK_SIZE = 8 << 20
_MESSAGE_SIZE = 4096
_FDS = 4
# The modules that programs and tests import most: loaded once here instead of once a program. Not the large ones, which
# every fork would pay for.
_WARM = (
    "abc bisect collections copy enum functools heapq io itertools json math operator re string struct sys time types "
    "typing"
)


class Zygote:
    """Answers the host's requests one at a time; at most one judge and one candidate live."""

    def __init__(self, host: socket.socket, settings: dict[str, Any]) -> None:
        self._host, self._settings = host, settings
        self._candidate: int | None = None
        self._judge: int | None = None
        self._dying: list[int] = []  # judges that were killed and not yet awaited
        self._folder = settings["scratch"]
        self._owns_folder = os.stat(self._folder).st_uid == os.getuid()
        self._layers: list[int] = []
        self._filters: list[lockdown.OwnFilter] = []
        if settings["landlock"]:
            self._layers = [lockdown.layer_for_writing(folder) for folder in (self._folder, None)]
        if settings["seccomp"]:
            self._filters = [lockdown.OwnFilter(may_receive_files=is_judge) for is_judge in (False, True)]

    def serve(self) -> NoReturn:
        while True:
            body, fds, _, _ = socket.recv_fds(self._host, _MESSAGE_SIZE, _FDS)
            if not body:
                os._exit(0)
            request = json.loads(body)
            getattr(self, f"_do_{request.pop('do')}")(fds, **request)
            for fd in fds:
                os.close(fd)

    def _do_judge(self, fds: list[int]) -> None:
        """Fork a judge, in the place of the last one; `fds`: its socket to the host."""
        self._end_judge()
        self._judge = os.fork()
        if self._judge == 0:
            self._in_child(fds, is_judge=True)
            test_runner.serve(socket.socket(fileno=fds[0]))

    def _do_call(self, fds: list[int]) -> None:
        """Fork a candidate whose functions the judge will call; `fds`: program, pipe to read, pipe to write."""
        self._fork_candidate(fds, candidate.serve_calls)

    def _do_main(self, fds: list[int]) -> None:
        """Fork a candidate that runs as a script; `fds`: program, standard input, standard output."""
        self._fork_candidate(fds, candidate.run_main)

    def _fork_candidate(self, fds: list[int], run: Any) -> None:
        self._candidate = os.fork()
        if self._candidate == 0:
            self._in_child(fds, is_judge=False)
            run(*fds)

    def _in_child(self, fds: list[int], *, is_judge: bool) -> None:
        """Give up whatever is not needed; a process that cannot must not go on."""
        try:
            lockdown.die_with_parent()
            if os.getppid() != self._settings["own_id"]:
                os._exit(1)
            if not is_judge:
                os.chdir(self._folder)
                lockdown.limit_processor(self._settings["seconds"])
            if self._layers:
                lockdown.enter_layer(self._layers[is_judge])
            _close_all_but(fds)
            self._host.detach()
            if self._filters:
                self._filters[is_judge].install()
        except BaseException:  # noqa: BLE001  # whatever failed
            os._exit(99)

    def _do_end(self, fds: list[int], grace: float, reports: bool) -> None:
        """Kill the candidate, or let it end by itself within `grace` seconds; empty its folder; say so.

        `reports`: say the candidate's status first, for a folder may take long to empty.
        """
        status = -1
        if self._candidate is not None:
            status = _ended(self._candidate, grace)
        if reports:
            self._host.send(json.dumps({"status": status}).encode())
        if self._candidate is not None:
            self._candidate = None
            if self._owns_folder:
                os.chmod(self._folder, 0o700)
            empty(self._folder)
        self._host.send(b"{}")
        while self._dying:
            os.waitpid(self._dying.pop(), 0)

    def _do_end_judge(self, fds: list[int]) -> None:
        self._end_judge()

    def _end_judge(self) -> None:
        if self._judge is not None:
            os.kill(self._judge, signal.SIGKILL)
            self._dying.append(self._judge)  # its memory is given back while the next trial goes on
            self._judge = None

    def _do_hello(self, fds: list[int]) -> None:
        """Say that the jail stands."""
        self._host.send(json.dumps({"pid": os.getpid(), "abi": lockdown.landlock_abi()}).encode())


def _close_all_but(fds: list[int]) -> None:
    kept = sorted({0, 1, 2, *fds})
    for low, high in itertools.pairwise(kept):
        if high > low + 1:
            os.closerange(low + 1, high)
    os.closerange(kept[-1] + 1, 65_536)


def _ended(pid: int, grace: float) -> int:
    """Return the exit status of a child, negative for a signal; kill it when its time is over."""
    end = time.monotonic() + grace
    if grace:
        handle = os.pidfd_open(pid)
        select.select([handle], [], [], max(0.0, end - time.monotonic()))
        os.close(handle)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> NoReturn:
    """`argv`: the socket's file descriptor and the settings as JSON."""
    host = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    settings["own_id"] = os.getpid()
    lockdown.die_with_parent()
    if settings["uid"] is not None:
        lockdown.drop_root(settings["uid"])
        lockdown.die_with_parent()  # a change of user clears it
    lockdown.forbid_new_privileges()
    lockdown.hide_from_debuggers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv[:] = ["solution.py"]
    for name in ("exit", "quit"):  # which the module `site` would have made, and programs use
        setattr(builtins, name, _sitebuiltins.Quitter(name, "end of file"))
    lockdown.limit_resources(memory_mb=settings["memory_mb"], tasks_of_others=settings["tasks_of_others"])
    sys.path[:] = [path for path in sys.path if path] + settings["packages"]
    try:
        for name in (*_WARM.split(), *settings["preload"]):
            __import__(name)
    except ImportError as error:
        sys.exit(f"user {os.getuid()} cannot import from the Python in {sys.prefix}: {error}")
    _thread.stack_size(_STACK_SIZE)
    if settings["landlock"]:
        lockdown.confine_files(settings["readable"], [settings["scratch"]])
    if settings["seccomp"]:
        lockdown.allow_listed_calls()
    rehearse()
    zygote = Zygote(host, settings)
    gc.collect()
    gc.freeze()
    gc.disable()
    os.dup2(1, 2)  # standard error leads to the host, which reads it only when the jail does not start
    zygote.serve()


_PROGRAM = "def solve(x):\n    return [x, 'two', 3.0]\n"
_TESTS = "def check(candidate):\n    assert candidate(1) == [1, 'two', 3.0]\n    assert candidate(x=2)[0] == 2\n"
_REQUESTS: list[Any] = [
    {"q": "global", "a": ["solve"]},
    {"q": "call", "a": [{"yours": 0}, {"t": [1]}, {"d": []}]},
    {"q": "call", "a": [{"yours": 0}, {"t": []}, {"d": [["x", 2]]}]},
    {"q": "call", "a": [{"yours": 0}, {"t": [1, 2]}, {"d": []}]},
]
_RESPONSES: list[Any] = [
    {"v": None},
    {"v": {"mine": 0}},
    {"v": {"l": [1, "two", 3.0]}},
    {"v": {"l": [2, "two", 3.0]}},
]
# Python specialises what has run some dozen times.
_TIMES = 60


def rehearse() -> None:
    for _ in range(_TIMES):
        with _recorded(_REQUESTS) as channel:
            candidate.answer_calls(_PROGRAM, channel)
        with _recorded(_RESPONSES) as channel:
            outcome = test_runner.judge(test_runner.prepare(_TESTS, "solve", ""), channel)
        assert outcome[0] == "correct", outcome
    del sys.modules[candidate.MODULE]


@contextmanager
def _recorded(messages: list[Any]) -> Iterator[Channel]:
    """Yield a channel on which the other side has said all it has to say."""
    read, write = os.pipe()
    for message in messages:
        body = json.dumps(message).encode()
        os.write(write, HEADER.pack(len(body)) + body)
    os.close(write)
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    channel.deadline = time.monotonic() + 60
    yield channel
    channel.close()
