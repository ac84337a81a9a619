"""What the machine does to a run: a disk that is full, a folder that cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

# What each is called when it is told; libraries that write in another language give only the text.
DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the folder cannot be written",
    errno.EPERM: "the folder cannot be written",
    errno.EIO: "the disk fails",
    errno.EFBIG: "a file became too large",
}
# torch's writer tells no reason.
WITHOUT_REASON = "PytorchStreamWriter failed writing file"


def disk_fault(error: BaseException) -> str | None:
    """Say in a sentence what the disk did, if it did something; None for any other error."""
    for cause in _chain(error):
        number = cause.errno if isinstance(cause, OSError) else None
        known = number if number in DISK else _by_text(str(cause))
        if known is not None:
            where = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
            return _told(DISK[known] + where)
        if WITHOUT_REASON in str(cause):
            return _told("the disk took no more (it may be full)")
    return None


def _told(what: str) -> str:
    return f"{what}; what was written before is kept: mend that, and give the same command again"


def _by_text(text: str) -> int | None:
    return next((number for number in DISK if os.strerror(number) in text), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
