from __future__ import annotations

import errno
import os

import pytest

from star_rft.cli.interrupts import disk_fault


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/x"), "the disk is full (runs/a/x)"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "runs/a"), "the folder cannot be written (runs/a)"),
        (OSError("[Errno 28] Error writing bytes. Detail: [errno 28] No space left on device"), "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "the disk took no more"),
    ],
)
def test_what_the_disk_did_is_a_sentence_in_whatever_words_a_library_says_it(error: Exception, says: str) -> None:
    told = disk_fault(error)
    assert told is not None
    assert told.startswith(says)
    assert "give the same command again" in told


def test_a_fault_of_the_disk_is_found_behind_the_error_that_it_caused() -> None:
    error = ValueError("could not save")
    error.__cause__ = OSError(errno.EROFS, os.strerror(errno.EROFS))
    assert (disk_fault(error) or "").startswith("the file system is read-only")


def test_other_errors_are_not_of_the_disk() -> None:
    assert disk_fault(ValueError("a bug")) is None
    assert disk_fault(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")) is None
