"""Handling of SIGINT, SIGTERM and disk errors: the work ends cleanly and says how to continue."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from star_rft.config import Config

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = b"\x1b[?25h"


class Interruption(BaseException):
    """Raised in the main thread by the first signal. It is no `Exception`, so that libraries do not catch it."""


@dataclass(slots=True)
class Stop:
    """The signal that has asked this process to stop: None until one has."""

    number: int | None = None

    def listen(self) -> None:
        """Handle the signals, except those that the parent process set to be ignored, such as SIGINT after `cmd &`."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._take)

    def check(self) -> None:
        """Raise Interruption if a signal came, where a library may have caught the first one."""
        if self.number is not None:
            raise Interruption

    @property
    def status(self) -> int:
        """The exit status that shells give a process which this signal ended."""
        return 128 + (self.number or signal.SIGINT)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:  # a second time: at once
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR)
            os._exit(128 + number)
        self.number = number
        raise Interruption


stop = Stop()


@contextmanager
def stoppable(config: Config | None = None, *, kept: str | None = None) -> Iterator[None]:
    """End the process with a few lines instead of a traceback if a signal comes within the block.

    After a signal any exception ends it so, because some libraries turn `Interruption` into an error of their own.

    Args:
        config: The config of the run that the block works on, to say what of it is saved.
        kept: Without a config, what is saved.
    """
    try:
        yield
    except BaseException as error:
        if stop.number is None and not isinstance(error, KeyboardInterrupt):
            raise
        for line in _farewell(config, kept):
            typer.echo(line, err=True)
        raise SystemExit(stop.status) from None


def _farewell(config: Config | None, kept: str | None) -> Iterator[str]:
    yield from ["stopped", *([f"saved: {kept}"] if kept else [])] if config is None else what_is_saved(config)
    yield f"to {'go on' if config or kept else 'begin again'}: {again()}"


def what_is_saved(config: Config) -> Iterator[str]:
    """Yield lines that say where a run was stopped, and what of it is saved."""
    from star_rft.runs.folder import RunFolder
    from star_rft.runs.status import status_of

    folder = RunFolder(config.folder)
    if not folder.config.exists():
        yield f"stopped before anything was sampled; {config.folder} is as it was"
        return
    now = status_of(folder, rounds=config.rounds)
    if now.round is None:
        yield f"stopped; all {now.rounds} rounds are finished"
        return
    is_warming = config.warm_start is not None and not folder.warm_start.exists()
    stage = "training the warm start" if is_warming else now.stage or ""
    yield f"stopped in round {now.round} of {now.rounds} while {stage}" if now.rounds else f"stopped while {stage}"
    saved = [_rounds(now.finished)] if now.finished else []
    is_evaluating = stage == "evaluating"
    if is_evaluating and now.round > 0:
        saved.append("its checkpoint")
    if now.planned:
        saved.append(f"{now.done} of {now.planned} units of its {'evaluation' if is_evaluating else 'samples'}")
    if "training" in stage:
        saved += [] if is_warming else ["its samples and selection"]
        saved.append(_of_training(folder.work))
    yield f"saved: {', '.join(saved) or 'nothing yet'}"


def _rounds(finished: tuple[int, ...]) -> str:
    return "round 0" if len(finished) == 1 else f"rounds 0-{finished[-1]}"


def _of_training(work: Path) -> str:
    """Say from which step the training will resume: that of its last complete checkpoint."""
    import json

    from star_rft.training.trainer import MARKER

    notes = [json.loads(path.read_text()) for path in work.glob(f"*/checkpoint-*/{MARKER}")]
    step = max((note["step"] for note in notes), default=0)
    return f"its training up to step {step}" if step else "its training begins anew"


def again() -> str:
    """Return the command that started this process, quoted for a shell."""
    program, *arguments = sys.argv
    if Path(program).name == "__main__.py":
        return shlex.join(sys.orig_argv)
    found = shutil.which(Path(program).name)
    is_on_path = found is not None and Path(found).resolve() == Path(program).resolve()
    return shlex.join([Path(program).name if is_on_path else program, *arguments])


# What the user reads for each error number. Libraries in other languages raise errors with the text alone.
DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the folder cannot be written",
    errno.EPERM: "the folder cannot be written",
    errno.EIO: "the disk fails",
    errno.EFBIG: "a file became too large",
}
# torch's writer gives no reason.
WITHOUT_REASON = "PytorchStreamWriter failed writing file"


def disk_fault(error: BaseException) -> str | None:
    """Return a sentence about an error of the disk; None for any other error."""
    for cause in _chain(error):
        number = cause.errno if isinstance(cause, OSError) else None
        known = number if number in DISK else _by_text(str(cause))
        if known is not None:
            where = f" ({cause.filename})" if isinstance(cause, OSError) and cause.filename else ""
            return _disk_message(DISK[known] + where)
        if WITHOUT_REASON in str(cause):
            return _disk_message("the disk took no more (it may be full)")
    return None


def _disk_message(what: str) -> str:
    return f"{what}; what was written before is kept: mend that, and give the same command again"


def _by_text(text: str) -> int | None:
    return next((number for number in DISK if os.strerror(number) in text), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
