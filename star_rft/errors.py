"""Exceptions that a user sees as one line: mistakes that the user can correct (exit status 2), and failures (1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from verifiers import VerifierError


class UserError(ValueError):
    """A mistake that the user can correct; the command line prints its text without a traceback, exit status 2."""


class RunError(UserError):
    """A run folder that cannot be used as requested; the text says why and what to do."""


class TrainingError(UserError):
    """A training that cannot be done as configured; the text says what to change."""


class RunFailure(RuntimeError):
    """A correct request that failed on the way; the command line prints its text, exit status 1."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put a place, such as a file or a key of a config, before the text of an error that a user sees."""
    try:
        yield
    except (UserError, VerifierError) as error:
        raise type(error)(f"{where}: {error}") from error.__cause__
