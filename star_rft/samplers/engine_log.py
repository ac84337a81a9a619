"""What the log of an engine says of its death: the error that came first, and the last lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LINES = 20  # of a log that an error quotes
LONGEST = 300  # characters of a quoted error
# `(Worker pid=31531) ERROR 11-22 03:27:28 [file.py:953] ` before what was said
_PREFIX = re.compile(r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d [\d:]+ \[[^\]]*\] ?)?")
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)(?:: .*)?$")
_CONSEQUENCE = re.compile(r"EngineDeadError|initialization failed|Failed core proc")


def log_tail(log: Path) -> str:
    """Return the error that the log names and its last lines, for the end of a message."""
    text = log.read_bytes().replace(b"\0", b"").decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return f"its log {log} is empty"
    error = cause(lines)
    tail = "\n".join(f"    {line}" for line in lines[-LINES:])
    return f"{f'its last error was {error}; ' if error else ''}its log is {log} and ends with\n{tail}"


def cause(lines: Sequence[str]) -> str | None:
    """Return the last error that is no consequence of another; with the line that raised it, if it says nothing."""
    said = [_PREFIX.sub("", line) for line in lines]
    for at in reversed(range(len(said))):
        if _ERROR.match(said[at]) and not _CONSEQUENCE.search(said[at]):
            if ":" in said[at]:
                return said[at][:LONGEST]
            before = next((line.strip() for line in reversed(said[:at]) if line.strip(" ^~")), "")
            return f"{said[at]} at `{before}`"[:LONGEST]
    return None
