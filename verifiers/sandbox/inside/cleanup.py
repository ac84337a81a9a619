"""Empties a folder after an untrusted program."""

from __future__ import annotations

import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def empty(folder: str) -> None:
    """Remove what is in a folder, trees that are deeper than a path or Python's stack included."""
    here = os.open(folder, _FOLDER)
    way: list[str] = []
    try:
        while True:
            name = _stripped(here)
            if name is not None:
                way.append(name)
                here = _moved(here, _entered(name, here))
            elif way:
                here = _moved(here, os.open("..", _FOLDER, dir_fd=here))
                os.rmdir(way.pop(), dir_fd=here)
            else:
                return
    finally:
        os.close(here)


def _stripped(here: int) -> str | None:
    """Remove files and empty folders until a folder comes that is not empty; return its name, None at the end."""
    with os.scandir(here) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=here)
                continue
            try:
                os.rmdir(entry.name, dir_fd=here)
            except OSError:
                return entry.name
    return None


def _entered(name: str, here: int) -> int:
    """Open a folder that even its owner may have been locked out of."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=here)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=here)
        inner = os.open(name, _FOLDER, dir_fd=here)
    os.fchmod(inner, 0o700)
    return inner


def _moved(old: int, new: int) -> int:
    os.close(old)
    return new
