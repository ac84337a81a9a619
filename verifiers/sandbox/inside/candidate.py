"""The process that runs a candidate's program; its statements about itself are never believed."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import types
from typing import Any, NoReturn

from verifiers.sandbox.inside.remote_objects import Peer
from verifiers.sandbox.inside.wire import Channel, ClosedPeer

MODULE = "solution"


def read_all(fd: int) -> str:
    """Return the whole text of a file descriptor from its beginning, and close it."""
    size = os.fstat(fd).st_size
    data = b""
    while len(data) < size:
        part = os.pread(fd, size - len(data), len(data))
        if not part:
            break
        data += part
    os.close(fd)
    return data.decode("utf-8", "surrogatepass")


def serve_calls(program_fd: int, read_fd: int, write_fd: int) -> NoReturn:
    """Run a program as a module, then answer the judge's calls until it closes the pipe."""
    gc.enable()
    try:
        answer_calls(read_all(program_fd), Channel(read_fd, write_fd))
    except ClosedPeer:  # the judge has seen enough
        os._exit(0)
    except BaseException:  # noqa: BLE001  # SystemExit and its kind end the process, and so the trial
        os._exit(1)
    os._exit(0)


def answer_calls(source: str, channel: Channel) -> None:
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    peer = Peer(channel, is_judge=False, names=module.__dict__)
    channel.send(_run(source, module, peer))
    peer.serve()


def _run(source: str, module: types.ModuleType, peer: Peer) -> dict[str, Any]:
    try:
        exec(compile(source, f"{MODULE}.py", "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # noqa: BLE001  # the program's own
        return peer.failure(error)
    return {"v": None}


def run_main(program_fd: int, stdin_fd: int, stdout_fd: int) -> NoReturn:
    """Run a program as `__main__` with its own standard input and output; the exit status is the program's."""
    gc.enable()
    os.dup2(stdin_fd, 0)
    os.dup2(stdout_fd, 1)
    os.close(stdin_fd)
    os.close(stdout_fd)
    module = types.ModuleType("__main__")
    module.__file__ = f"{MODULE}.py"
    sys.modules["__main__"] = module
    status = 0
    try:
        source = read_all(program_fd)
        exec(compile(source, f"{MODULE}.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # the program's own
        status = 1
    os._exit(_finish(status) & 0xFF)


def _finish(status: int) -> int:
    """What Python does at the end of a program: wait for threads, run exit handlers, flush."""
    try:
        if (threading := sys.modules.get("threading")) is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.__stdout__):
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
    except BaseException:  # noqa: BLE001  # output that cannot be written, or a handler of the program's
        return status or 1
    return status
