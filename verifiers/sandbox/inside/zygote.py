"""The zygote: the first process of a jail, single-threaded and warm, which forks every judge and candidate.

It holds neither programs nor tests, but passes them to its children as file descriptors, unread. So the memory of a
candidate, forked from here, contains no test, and that of a judge no candidate.
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
_FDS = 4  # most file descriptors of a request
# The modules that programs and tests import most, loaded once here instead of in each program. No large ones, which
# make every fork slower.
_WARM = (
    "abc bisect collections copy enum functools heapq io itertools json math operator re string struct sys time types "
    "typing"
)


class _Zygote:
    """Answers the host's requests one at a time: `{"do": name, ...}` calls `_do_<name>` with the file descriptors sent.

    At most one judge and one candidate are alive.
    """

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
        """Fork a judge instead of the last one. `fds`: its socket to the host."""
        self._end_judge()
        self._judge = os.fork()
        if self._judge == 0:
            self._in_child(fds, is_judge=True)
            test_runner.serve(socket.socket(fileno=fds[0]))

    def _do_call(self, fds: list[int]) -> None:
        """Fork a candidate whose functions the judge calls. `fds`: program, pipe to read, pipe to write."""
        self._fork_candidate(fds, candidate.serve_calls)

    def _do_main(self, fds: list[int]) -> None:
        """Fork a candidate that runs as a script. `fds`: program, standard input, standard output."""
        self._fork_candidate(fds, candidate.run_main)

    def _fork_candidate(self, fds: list[int], run: Any) -> None:
        self._candidate = os.fork()
        if self._candidate == 0:
            self._in_child(fds, is_judge=False)
            run(*fds)

    def _in_child(self, fds: list[int], *, is_judge: bool) -> None:
        """Restrict a new child: its parent, folder, file descriptors and system calls. End it where that fails."""
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

    def _do_end(self, _fds: list[int], grace: float, reports: bool) -> None:
        """Kill the candidate, after `grace` seconds to end by itself; empty its folder; report that.

        With `reports` its exit status is reported first, because the folder may take long to empty.
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

    def _do_end_judge(self, _fds: list[int]) -> None:
        self._end_judge()

    def _end_judge(self) -> None:
        if self._judge is not None:
            os.kill(self._judge, signal.SIGKILL)
            self._dying.append(self._judge)  # awaited later, because the kernel takes a while to free its memory
            self._judge = None

    def _do_hello(self, _fds: list[int]) -> None:
        """Tell the host that the jail has started."""
        self._host.send(b"{}")


def _close_all_but(fds: list[int]) -> None:
    kept = sorted({0, 1, 2, *fds})
    for low, high in itertools.pairwise(kept):
        if high > low + 1:
            os.closerange(low + 1, high)
    os.closerange(kept[-1] + 1, 65_536)


def _ended(pid: int, grace: float) -> int:
    """Return the exit status of a child, negative for a signal; kill it after `grace` seconds."""
    end = time.monotonic() + grace
    if grace:
        handle = os.pidfd_open(pid)
        select.select([handle], [], [], max(0.0, end - time.monotonic()))
        os.close(handle)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> NoReturn:
    """Restrict this process and serve. `argv`: the socket's file descriptor, and `Jail._for_zygote` as JSON."""
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
    for name in ("exit", "quit"):  # programs use them, but the module `site`, which makes them, is not loaded
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
    _rehearse()
    # What exists now is never freed: without this the collector would write to, and so copy, every page after a fork.
    zygote = _Zygote(host, settings)
    gc.collect()
    gc.freeze()
    gc.disable()
    os.dup2(1, 2)  # closes the pipe of standard error, which the host reads only where the jail does not start
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
# Python specialises bytecode that has run some dozen times.
_TIMES = 60


def _rehearse() -> None:
    """Run both sides of a trial, so that children inherit specialised bytecode and do not each warm up."""
    for _ in range(_TIMES):
        with _recorded(_REQUESTS) as channel:
            candidate.answer_calls(_PROGRAM, channel)
        with _recorded(_RESPONSES) as channel:
            outcome = test_runner.judge(test_runner.prepare(_TESTS, "solve", ""), channel)
        assert outcome[0] == "correct", outcome
    del sys.modules[candidate.MODULE]


@contextmanager
def _recorded(messages: list[Any]) -> Iterator[Channel]:
    """Yield a channel from which these messages can be read; what is sent is lost."""
    read, write = os.pipe()
    for message in messages:
        body = json.dumps(message).encode()
        os.write(write, HEADER.pack(len(body)) + body)
    os.close(write)
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    channel.deadline = time.monotonic() + 60
    yield channel
    channel.close()
