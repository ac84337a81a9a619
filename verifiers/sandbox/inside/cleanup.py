"""Removal of the files that an untrusted program left in a folder."""

from __future__ import annotations

import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def empty(folder: str) -> None:
    """Remove the content of a folder, also of trees that are deeper than a path or Python's stack allows."""
    # By open folders and relative names: `here` is the open folder, `way` the names of the folders down to it.
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
    """Remove files and empty folders; return the name of the first folder that is not empty, None at the end."""
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
    """Open a folder whose permissions may exclude even its owner."""
    try:
        inner = os.open(name, _FOLDER, dir_fd=here)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=here)
        inner = os.open(name, _FOLDER, dir_fd=here)
    os.fchmod(inner, 0o700)
    return inner


def _moved(old: int, new: int) -> int:
    """Close one open folder and return the next."""
    os.close(old)
    return new
