"""What a process gives up before it runs code that nobody trusts: Landlock, seccomp, resource limits.

All of it is inherited by whatever the process starts, and none of it can be taken back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from verifiers.sandbox.inside.syscalls import ALWAYS, PARENTS, SOMETIMES, numbers

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 15, 38
# Landlock's calls have one number on every machine.
_LANDLOCK_CALLS = _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_ABI_QUERY = 1
_PATH_BENEATH = 1
_READ = (1 << 2) | (1 << 3)  # files and folders
# Rights on files by ABI: 13 in the first, then refer, truncate, ioctl_dev.
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FOR_FILES = (1 << 1) | (1 << 2) | (1 << 14)  # write, read, truncate
_NEVER = (1 << 0) | (1 << 6) | (1 << 11)  # execute; make character and block devices
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract unix sockets and signals

_FILE_SIZE, _FILES, _TASKS = 32 << 20, 256, 64

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_ALLOW, _DENY, _NO_SUCH_CALL, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OWN_ID = b"\x9d\x5c\xe3\x7b"  # no number of a call, a flag or a code looks like this
_CLONE_THREAD = 0x00010000
# Nothing that names another process as the owner of a file's signals.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)
_IOCTL_REQUESTS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX


class LockdownError(RuntimeError):
    """The kernel refused a measure; the process must not run the candidate."""


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise LockdownError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def die_with_parent() -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_from_debuggers() -> None:
    """Nobody of the same user may read this process's memory or /proc files."""
    prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def limit_resources(*, memory_mb: int, tasks_of_others: int) -> None:
    """Set hard limits for this process and all that it starts.

    RLIMIT_NPROC counts all tasks of the user, so `tasks_of_others` come on top.
    """
    for kind, value in (
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_FSIZE, _FILE_SIZE),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_NPROC, _TASKS + tasks_of_others),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _limit(kind, value)


def limit_processor(seconds: float) -> None:
    """Set a hard limit on processor time: the last resort after the deadlines on the clock."""
    _limit(resource.RLIMIT_CPU, int(seconds) + 2)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel speaks; 0 for none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _ABI_QUERY)))


def confine_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow to read beneath some paths and to do anything but execute beneath others; nothing else.

    From ABI 4 on no TCP port, and from ABI 6 on no signal and no abstract socket of a process outside.
    """
    handled = _all_rights()
    rules = [(path, _READ) for path in readable]
    rules += [(path, handled & ~_NEVER) for path in (*writable, "/dev/null")]
    layer = _ruleset(handled, rules)
    enter_layer(layer)
    os.close(layer)


def layer_for_writing(folder: str | None) -> int:
    """Return a file descriptor of a second layer: write beneath one folder only, or nowhere; reading stays as it is.

    Made once and entered by each process: Landlock also lets nobody debug or signal a process outside its own layers.
    """
    handled = _all_rights() & ~_READ
    rules = [("/dev/null", handled)]
    return _ruleset(handled, [*rules, (folder, handled & ~_NEVER)] if folder else rules)


def enter_layer(ruleset: int) -> None:
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))


def _all_rights() -> int:
    abi = landlock_abi()
    if not abi:
        raise LockdownError("the kernel has no Landlock")
    return (1 << _RIGHTS_BY_ABI.get(abi, 16)) - 1


def _ruleset(handled: int, rules: Iterable[tuple[str, int]]) -> int:
    abi = landlock_abi()
    attributes = struct.pack("<QQQ", handled, _TCP, _SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    for path, rights in rules:
        _allow_beneath(ruleset, path, rights)
    return ruleset


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # a system without this folder
        return
    try:
        if not os.path.isdir(path):
            rights &= _FOR_FILES
        _checked(_libc.syscall(_LANDLOCK_ADD, ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, handle), 0))
    finally:
        os.close(handle)


def _checked(result: int) -> int:
    if result < 0:
        raise LockdownError(f"landlock: {os.strerror(ctypes.get_errno())}")
    return int(result)


Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def allow_listed_calls() -> None:
    """Install the filter of the zygote, which its children inherit: the list, and what it takes to have children.

    Checking a long list costs the kernel much when the filter is installed, so it is done once.
    """
    buffer, header = _program(_packed(_listed(os.uname().machine)))
    _install(header)
    del buffer  # the kernel has its own copy


class OwnFilter:
    """The short second filter of a judge or candidate, whose own process id is part of it.

    Made in the zygote but for the id, for a child pays for whatever it does itself.
    """

    def __init__(self, *, may_receive_files: bool = False) -> None:
        (stand_in,) = struct.unpack("<I", _OWN_ID)
        code = _packed(_own(os.uname().machine, stand_in, may_receive_files))
        self._places = [match.start() for match in re.finditer(re.escape(_OWN_ID), code)]
        self._buffer, self._header = _program(code)

    def install(self) -> None:
        own_id = os.getpid()
        for place in self._places:
            struct.pack_into("<I", self._buffer, place, own_id)
        _install(self._header)


def _packed(program: Sequence[Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _program(code: bytes) -> tuple[Any, bytes]:
    """Return the memory that holds a filter and the header that points to it."""
    buffer = ctypes.create_string_buffer(code, len(code))
    return buffer, struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))


def _install(header: bytes) -> None:
    if _libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) != 0:
        raise LockdownError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def _listed(machine: str) -> list[Instruction]:
    if machine not in _ARCHITECTURES:
        raise LockdownError(f"no list of system calls for {machine}; known: {', '.join(_ARCHITECTURES)}")
    some = numbers(SOMETIMES, machine)
    program: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]
    # Landlock's calls can only take rights away; the other calls of a parent are denied by the second filter.
    allowed = [*numbers(ALWAYS, machine).values(), *numbers(PARENTS, machine).values(), *_LANDLOCK_CALLS]
    for number in allowed:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += _if_call(some["clone3"], [(_RETURN, 0, 0, _NO_SUCH_CALL)])  # libc then uses clone, whose flags show
    program += _if_call(some["fcntl"], _if_argument_in(1, _FCNTL_COMMANDS))
    program += _if_call(some["ioctl"], _if_argument_in(1, _IOCTL_REQUESTS))
    program += _if_call(some["sendto"], _if_argument_is_null(4))  # only to the other end of a socket pair
    return [*program, (_RETURN, 0, 0, _DENY)]


def _own(machine: str, pid: int, may_receive_files: bool) -> list[Instruction]:
    some = numbers(SOMETIMES, machine)
    denied = {name: number for name, number in numbers(PARENTS, machine).items() if name not in some}
    if may_receive_files:
        del denied["recvmsg"]
    program: list[Instruction] = [(_LOAD, 0, 0, 0)]
    for number in denied.values():
        program += _if_call(number, [(_RETURN, 0, 0, _DENY)])
    program += _if_call(some["clone"], _if_argument_has(0, _CLONE_THREAD))
    program += _if_call(some["prlimit64"], _if_argument_in(0, (0, pid)))
    program += _if_call(some["tgkill"], _if_argument_in(0, (pid,)))
    program += _if_call(some["prctl"], _if_argument_in(0, (_PR_SET_NAME,)))
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _if_call(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body`, which returns in every case, for one system call; else go on with the number still loaded."""
    return [(_EQUAL, 0, len(body), number), *body]


def _low_half(argument: int) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * argument)


def _if_argument_in(argument: int, values: Sequence[int]) -> list[Instruction]:
    tests: list[Instruction] = []
    for value in values:
        tests += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [_low_half(argument), *tests, (_RETURN, 0, 0, _DENY)]


def _if_argument_has(argument: int, bit: int) -> list[Instruction]:
    return [_low_half(argument), (_ANY_BIT, 0, 1, bit), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]


def _if_argument_is_null(argument: int) -> list[Instruction]:
    high = (_LOAD, 0, 0, 20 + 8 * argument)
    allowed = [(_EQUAL, 0, 3, 0), high, (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    return [_low_half(argument), *allowed, (_RETURN, 0, 0, _DENY)]


def drop_root(uid: int) -> None:
    """Become an ordinary user of whom there is no other process; a limit on processes does not bind root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
