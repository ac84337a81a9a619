"""Restricts a process before it runs untrusted code: Landlock, seccomp, resource limits.

Child processes inherit all restrictions, and none can be lifted again.
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

_libc = ctypes.CDLL(None, use_errno=True)
# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 15, 38
# Landlock's system calls, whose numbers are the same on every architecture, and constants of linux/landlock.h.
_LANDLOCK_CALLS = _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_ABI_QUERY = 1
_PATH_BENEATH = 1
_READ = (1 << 2) | (1 << 3)  # files and folders
# Number of access rights by ABI: 13 in the first, later also refer, truncate and ioctl_dev.
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FOR_FILES = (1 << 1) | (1 << 2) | (1 << 14)  # write, read, truncate
_NEVER = (1 << 0) | (1 << 6) | (1 << 11)  # execute; make character and block devices
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract unix sockets and signals

# Limits of a jail: bytes of a file, open files, tasks (processes and threads).
_FILE_SIZE, _FILES, _TASKS = 32 << 20, 256, 64

# seccomp: linux/audit.h for architectures, linux/seccomp.h for what a filter returns, linux/bpf_common.h for its code.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000  # in the number of a call by the x32 ABI of x86_64
_ALLOW, _DENY, _NO_SUCH_CALL, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OWN_ID = b"\x9d\x5c\xe3\x7b"  # placeholder of a process id in a filter, in which no other constant has these bytes
_CLONE_THREAD = 0x00010000
# Allowed commands of fcntl: duplicate, flags, locks and pipe sizes, but not F_SETOWN, which sends signals to others.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)
_IOCTL_REQUESTS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX


class LockdownError(RuntimeError):
    """The kernel refused a restriction; the process must not run a program."""


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise LockdownError(f"_prctl {option}: {os.strerror(ctypes.get_errno())}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. A change of user cancels this."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_from_debuggers() -> None:
    """Deny other processes of the same user this process's memory and /proc files."""
    _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Let no set-user-id program raise privileges; seccomp and Landlock require this."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def limit_resources(*, memory_mb: int, tasks_of_others: int) -> None:
    """Set hard limits for this process and its children.

    RLIMIT_NPROC counts all tasks of the user, so `tasks_of_others` are added to the limit.
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
    """Set a hard limit on processor time, in case that the deadlines of judge and host fail."""
    _limit(resource.RLIMIT_CPU, int(seconds) + 2)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def landlock_abi() -> int:
    """Return the version of Landlock in the kernel; 0 without Landlock."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _ABI_QUERY)))


def confine_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow only to read below some paths, and to do anything but execute below others.

    From ABI 4 on also no TCP port; from ABI 6 on no signal to, and no abstract socket of, a process outside.
    """
    handled = _all_rights()
    rules = [(path, _READ) for path in readable]
    rules += [(path, handled & ~_NEVER) for path in (*writable, "/dev/null")]
    layer = _ruleset(handled, rules)
    enter_layer(layer)
    os.close(layer)


def layer_for_writing(folder: str | None) -> int:
    """Return a file descriptor of a second layer: writing only below one folder, or nowhere; reading as before.

    It is made once, and each process enters it. Landlock also forbids to debug or signal processes outside a layer.
    """
    handled = _all_rights() & ~_READ
    rules = [("/dev/null", handled)]
    return _ruleset(handled, [*rules, (folder, handled & ~_NEVER)] if folder else rules)


def enter_layer(ruleset: int) -> None:
    """Restrict this process by a layer; raise LockdownError."""
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0))


def _all_rights() -> int:
    abi = landlock_abi()
    if not abi:
        raise LockdownError("the kernel has no Landlock")
    return (1 << _RIGHTS_BY_ABI.get(abi, 16)) - 1


def _ruleset(handled: int, rules: Iterable[tuple[str, int]]) -> int:
    abi = landlock_abi()
    # struct landlock_ruleset_attr, which grew with the ABI: rights on files, on TCP ports, scopes.
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


_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def allow_listed_calls() -> None:
    """Install the seccomp filter of the zygote, which its children inherit: the allowed calls, and those of a parent.

    The kernel checks a filter when it is installed, which takes long for a long list; so it is done once.
    """
    buffer, header = _program(_packed(_listed(os.uname().machine)))
    _install(header)
    del buffer  # the kernel has its own copy


class OwnFilter:
    """The short second seccomp filter of a judge or candidate, which contains its own process id.

    It is made in the zygote except for the id, so that the child has little to do.
    """

    def __init__(self, *, may_receive_files: bool = False) -> None:
        (stand_in,) = struct.unpack("<I", _OWN_ID)
        code = _packed(_own(os.uname().machine, stand_in, may_receive_files))
        self._places = [match.start() for match in re.finditer(re.escape(_OWN_ID), code)]
        self._buffer, self._header = _program(code)

    def install(self) -> None:
        """Restrict this process; raise LockdownError."""
        own_id = os.getpid()
        for place in self._places:
            struct.pack_into("<I", self._buffer, place, own_id)
        _install(self._header)


def _packed(program: Sequence[_Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _program(code: bytes) -> tuple[Any, bytes]:
    """Return (the memory of a filter, struct sock_fprog, which points to it)."""
    buffer = ctypes.create_string_buffer(code, len(code))
    return buffer, struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))


def _install(header: bytes) -> None:
    if _libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) != 0:
        raise LockdownError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def _listed(machine: str) -> list[_Instruction]:
    if machine not in _ARCHITECTURES:
        raise LockdownError(f"no list of system calls for {machine}; known: {', '.join(_ARCHITECTURES)}")
    """Return the long filter: what is not allowed by it fails with EPERM."""
    some = _numbers(_SOMETIMES, machine)
    # A call of another architecture, or of x32, has other numbers: kill the process.
    program: list[_Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]
    # Landlock's calls can only remove rights. The calls of a parent are denied to its children by the second filter.
    allowed = [*_numbers(_ALWAYS, machine).values(), *_numbers(_PARENTS, machine).values(), *_LANDLOCK_CALLS]
    for number in allowed:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += _if_call(
        some["clone3"], [(_RETURN, 0, 0, _NO_SUCH_CALL)]
    )  # libc then uses clone, whose flags a filter can read
    program += _if_call(some["fcntl"], _if_argument_in(1, _FCNTL_COMMANDS))
    program += _if_call(some["ioctl"], _if_argument_in(1, _IOCTL_REQUESTS))
    program += _if_call(
        some["sendto"], _if_argument_is_null(4)
    )  # no address, so only to the other end of a socket pair
    return [*program, (_RETURN, 0, 0, _DENY)]


def _own(machine: str, pid: int, may_receive_files: bool) -> list[_Instruction]:
    """Return the short filter: no calls of a parent, threads but no processes, limits and signals for itself only."""
    some = _numbers(_SOMETIMES, machine)
    denied = {name: number for name, number in _numbers(_PARENTS, machine).items() if name not in some}
    if may_receive_files:
        del denied["recvmsg"]
    program: list[_Instruction] = [(_LOAD, 0, 0, 0)]
    for number in denied.values():
        program += _if_call(number, [(_RETURN, 0, 0, _DENY)])
    program += _if_call(some["clone"], _if_argument_has(0, _CLONE_THREAD))
    program += _if_call(some["prlimit64"], _if_argument_in(0, (0, pid)))
    program += _if_call(some["tgkill"], _if_argument_in(0, (pid,)))
    program += _if_call(some["_prctl"], _if_argument_in(0, (_PR_SET_NAME,)))
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _if_call(number: int, body: Sequence[_Instruction]) -> list[_Instruction]:
    """Run `body`, which always returns, for one system call; else skip it, with the call's number still loaded."""
    return [(_EQUAL, 0, len(body), number), *body]


def _low_half(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * argument)  # struct seccomp_data; a filter reads 32 bits at a time


def _if_argument_in(argument: int, values: Sequence[int]) -> list[_Instruction]:
    tests: list[_Instruction] = []
    for value in values:
        tests += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [_low_half(argument), *tests, (_RETURN, 0, 0, _DENY)]


def _if_argument_has(argument: int, bit: int) -> list[_Instruction]:
    return [_low_half(argument), (_ANY_BIT, 0, 1, bit), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]


def _if_argument_is_null(argument: int) -> list[_Instruction]:
    high = (_LOAD, 0, 0, 20 + 8 * argument)
    allowed = [(_EQUAL, 0, 3, 0), high, (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    return [_low_half(argument), *allowed, (_RETURN, 0, 0, _DENY)]


def drop_root(uid: int) -> None:
    """Become a user without privileges and without other processes: a limit on processes does not bind root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


# System calls as name:x86_64:aarch64 ("-": does not exist there). These are allowed with any arguments.
_ALWAYS = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
open:2:- openat:257:56 creat:85:- close:3:57 close_range:436:436 fstat:5:80 stat:4:- lstat:6:-
newfstatat:262:79 statx:332:291 statfs:137:43 fstatfs:138:44 lseek:8:62 poll:7:- ppoll:271:73 select:23:-
pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22
epoll_pwait2:441:441 eventfd2:290:19 pipe:22:- pipe2:293:59 dup:32:23 dup2:33:- dup3:292:24 flock:73:32
fsync:74:82 fdatasync:75:83 truncate:76:45 ftruncate:77:46 getdents64:217:61 getcwd:79:17
chdir:80:49 fchdir:81:50 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34 rmdir:84:-
unlink:87:- unlinkat:263:35 symlink:88:- symlinkat:266:36 readlink:89:- readlinkat:267:78 chmod:90:-
fchmod:91:52 fchmodat:268:53 umask:95:166 utimensat:280:88 access:21:- faccessat:269:48 faccessat2:439:439
sendfile:40:71 copy_file_range:326:285 mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233
msync:26:227 mincore:27:232 brk:12:214 membarrier:324:283 rseq:334:293 set_robust_list:273:99
futex:202:98 futex_waitv:449:449 set_tid_address:218:96 exit:60:93 exit_group:231:94
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigtimedwait:128:137 rt_sigpending:127:136
rt_sigsuspend:130:133 sigaltstack:131:132 restart_syscall:219:128 pause:34:- alarm:37:- setitimer:38:103
getitimer:36:102 timer_create:222:107 timer_settime:223:110 timer_gettime:224:108 timer_delete:226:111
timer_getoverrun:225:109 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87 getpid:39:172
gettid:186:178 getppid:110:173 getpgrp:111:- getpgid:121:155 getsid:124:156 getuid:102:174 geteuid:107:175
getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158 getrandom:318:278
clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169
time:201:- times:100:153 getrusage:98:165 sysinfo:99:179 uname:63:160 sched_yield:24:124
sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120 sched_get_priority_max:146:125
sched_get_priority_min:147:126 getpriority:140:141 getrlimit:97:163 setrlimit:160:164 getcpu:309:168
getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
socketpair:53:199 recvfrom:45:207 getsockopt:55:209 getsockname:51:204 getpeername:52:205
shutdown:48:210 wait4:61:260 waitid:247:95
"""

# Allowed for some arguments only, see `_listed` and `_own`.
_SOMETIMES = """
clone:56:220 clone3:435:435 fcntl:72:25 ioctl:16:29 prlimit64:302:261 tgkill:234:131 sendto:44:206 _prctl:157:167
"""

# What the zygote needs to fork and end children. `_own` denies these to the children.
_PARENTS = """
fork:57:- vfork:58:- clone:56:220 kill:62:129 pidfd_open:434:434 pidfd_send_signal:424:424 recvmsg:47:212
sendmsg:46:211 _prctl:157:167 seccomp:317:277 prlimit64:302:261 tgkill:234:131
"""


def _numbers(table: str, machine: str) -> dict[str, int]:
    """Return the numbers of a table's system calls by name, for an architecture as in `platform.machine()`."""
    column = {"x86_64": 1, "aarch64": 2}[machine]
    rows = [row.split(":") for row in table.split()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
