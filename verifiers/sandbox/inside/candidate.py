"""The process that runs a candidate's program. Nothing that it says about itself is trusted."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import types
from typing import Any, NoReturn

from verifiers.sandbox.inside.remote_objects import Peer
from verifiers.sandbox.inside.wire import Channel, ClosedPeer

MODULE = "solution"  # the name under which the program runs, and under which tests may import from it


def _read_all(fd: int) -> str:
    """Return the whole text of a file, from its start, and close the descriptor."""
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
    """Run a program as a module, then answer the judge's calls until it closes the pipe; then end the process."""
    gc.enable()
    try:
        answer_calls(_read_all(program_fd), Channel(read_fd, write_fd))
    except ClosedPeer:  # the judge is done
        os._exit(0)
    except BaseException:  # noqa: BLE001  # such as SystemExit, which ends the program before its tests
        os._exit(1)
    os._exit(0)


def answer_calls(source: str, channel: Channel) -> None:
    """Run a program, send its outcome, and answer requests until the channel is closed."""
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
    """Run a program as `__main__` with these standard streams, then end the process with the program's status."""
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
        source = _read_all(program_fd)
        exec(compile(source, f"{MODULE}.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # the program's own
        status = 1
    os._exit(_finish(status) & 0xFF)


def _finish(status: int) -> int:
    """Do what Python does at the end of a program (wait for threads, run exit handlers, flush); return the status."""
    try:
        if (threading := sys.modules.get("threading")) is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.__stdout__):
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
    except BaseException:  # noqa: BLE001  # a failed write, or an exit handler of the program
        return status or 1
    return status
