"""The exceptions: mistakes of the user, and failures on the way."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can mend: one clear line, no traceback, exit status 2."""


class RunError(UserError):
    """A run folder that cannot be used as asked: the text says why and what to do."""


class TrainingError(UserError):
    """A training that cannot be done as asked; the text says what to change."""


class RunFailure(RuntimeError):
    """Work that was asked for rightly and failed: one clear line, exit status 1."""
