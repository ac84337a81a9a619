"""Score a file of completions: JSON lines in, JSON lines out, in the same order."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from verifiers.plugins import VerifierError
from verifiers.registry import Check, get
from verifiers.rewards import Tally
from verifiers.types import Verdict
from verifiers.workers.pool import Pool

FIELDS = ("id", "completion", "reference")


class BadLine(ValueError):
    """A line of the input is not what it must be; the text names file and line."""


@dataclass(slots=True)
class _Source:
    """Reads rows ahead of the verdicts. A bad line ends them; it is raised when those before are scored."""

    name: str
    lines: Iterable[str]
    ids: deque[Any]
    read_chars: int = 0
    error: BadLine | None = None

    def pairs(self) -> Iterator[tuple[str, Any]]:
        for number, line in enumerate(self.lines, start=1):
            self.read_chars += len(line)
            if not line.strip():
                continue
            try:
                row = _row(line)
            except ValueError as error:
                self.error = BadLine(f"{self.name}:{number}: {error}")
                return
            self.ids.append(row["id"])
            yield row["completion"], row["reference"]


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"must be an object with {', '.join(FIELDS)}, not {type(row).__name__}")
    if missing := [key for key in FIELDS if key not in row]:
        raise ValueError(f"lacks {', '.join(missing)}; it has {', '.join(row) or 'nothing'}")
    if not isinstance(row["completion"], str):
        raise ValueError(f"completion must be text, not {type(row['completion']).__name__}")
    return row


def score_file(
    name: str,
    path: str | Path,
    *,
    out: TextIO,
    log: TextIO | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Tally:
    """Check every line of a JSONL file (`-`: standard input) and write one verdict a line to `out`, in order.

    A line is `{"id", "completion", "reference"}`, a verdict `{"id", "status", "score", "answer", "reason",
    "seconds"}`. Progress, the summary and the warning about unknowns go to `log` (standard error). Raises BadLine after
    the lines before the bad one are written, and VerifierError before anything is read.
    """
    log = log or sys.stderr
    tally = Tally()
    pool = Pool(name, workers=workers, timeout=timeout, **options)
    with pool, _opened(path) as (handle, size):
        source = _Source(str(path), handle, deque())
        progress = _Progress(log, size)
        for verdict in tally.watch(pool.verify_iter(source.pairs())):
            out.write(_json_line(_record(source.ids.popleft(), verdict)))
            progress.show(tally.total, source.read_chars)
    out.flush()
    progress.end()
    print(f"{name}: {tally}", file=log)
    if source.error is not None:
        raise source.error
    if text := tally.warning():
        print(text, file=log)
    return tally


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[TextIO, int]]:
    """Yield the lines and their size, 0 where it is not known (in bytes: only an estimate depends on it)."""
    if str(path) == "-":
        yield sys.stdin, 0
        return
    with open(path, encoding="utf-8") as handle:
        yield handle, os.path.getsize(path)


def _record(row_id: Any, verdict: Verdict) -> dict[str, Any]:
    return {
        "id": row_id,
        "status": verdict.status,
        "score": verdict.score,
        "answer": verdict.answer,
        "reason": verdict.reason,
        "seconds": round(verdict.seconds, 6),
    }


def _json_line(record: dict[str, Any]) -> str:
    """Return one line, readable where it can be: half of a surrogate pair, which JSON allows, no file can hold."""
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(record)
    return text + "\n"


class _Progress:
    """One line that rewrites itself on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, log: TextIO, size: int) -> None:
        self._log, self._size = log, size
        self._is_terminal = log.isatty()
        self._began = self._shown = time.monotonic()

    def show(self, done: int, read: int) -> None:
        now = time.monotonic()
        if now - self._shown < (0.2 if self._is_terminal else 10.0):
            return
        self._shown = now
        spent = now - self._began
        rest = f", about {spent * (self._size - read) / read:.0f} s left" if self._size > read > 0 else ""
        text = f"{done} verdicts, {done / spent:.0f}/s{rest}"
        self._log.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        self._log.flush()

    def end(self) -> None:
        if self._is_terminal:
            self._log.write("\r\x1b[K")


def parse_options(check: Check, settings: Sequence[str]) -> dict[str, Any]:
    """Read `option=value` texts: text where the option's default is text, JSON elsewhere (`true`, `0.1`)."""
    options: dict[str, Any] = {}
    for setting in settings:
        option, equals, value = setting.partition("=")
        if not equals:
            raise VerifierError(f"--set takes option=value, not {setting!r}")
        options[option] = value if isinstance(check.options.get(option), str) else _json_or_text(value)
    check.bound(options)
    return options


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def describe_all(names: Iterable[str]) -> str:
    """Return the list of verifiers for people: what each does, its options, an example; or why it cannot be loaded."""
    return "\n\n".join(map(_described, names))


def _described(name: str) -> str:
    try:
        check = get(name)
    except VerifierError as error:
        return f"{name}\n    ERROR: {error}"
    lines = [f"{name}  (version {check.version}, {check.timeout:g} s an item)", f"    {check.summary}"]
    if check.options:
        lines.append("    options:   " + ", ".join(f"{key}={value!r}" for key, value in check.options.items()))
    if example := check.example:
        lines.append(f"    example:   {example.completion!r}")
        lines.append(f"    reference: {example.reference!r}")
        if example.options:
            lines.append("    with:      " + ", ".join(f"{key}={json.dumps(v)}" for key, v in example.options.items()))
    return "\n".join(lines)
