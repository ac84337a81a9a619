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

_FIELDS = ("id", "completion", "reference")


class BadLine(ValueError):
    """A line of the input is no row; the message names file and line."""


@dataclass(slots=True)
class _Source:
    """Rows of a file, read ahead of their verdicts.

    A bad line ends them; its `error` is raised only when the rows before it are scored.
    """

    name: str
    lines: Iterable[str]
    ids: deque[Any]
    read_chars: int = 0
    error: BadLine | None = None

    def pairs(self) -> Iterator[tuple[str, Any]]:
        try:
            for row in read_rows(self._counted(), self.name):
                self.ids.append(row["id"])
                yield row["completion"], row["reference"]
        except BadLine as error:
            self.error = error

    def _counted(self) -> Iterator[str]:
        for line in self.lines:
            self.read_chars += len(line)
            yield line


def read_rows(lines: Iterable[str], name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON lines, without blank lines; raise BadLine, which names the file `name` and the line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _row(line)
        except ValueError as error:
            raise BadLine(f"{name}:{number}: {error}") from error
        yield row


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"must be an object with {', '.join(_FIELDS)}, not {type(row).__name__}")
    if missing := [key for key in _FIELDS if key not in row]:
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
    """Check every line of a JSONL file and write one verdict a line, in the same order.

    A line of the file is `{"id", "completion", "reference"}`, a line of the output `{"id", "status", "score",
    "answer", "reason", "seconds"}`.

    Args:
        name: A registered verifier, or "pkg.module:function".
        path: The JSONL file; "-" reads standard input.
        out: Where verdicts are written.
        log: Where progress, the summary and the warning about unknown verdicts go, by default standard error.
        workers: Number of processes, by default one a core.
        timeout: Seconds an item, by default the verifier's own.
        **options: Options of the verifier.

    Returns:
        The counts of the verdicts.

    Raises:
        VerifierError: The verifier or an option is wrong; nothing has been read then.
        BadLine: A line is no such object; the verdicts of the lines before it are written.
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
    """Yield (the lines, their size in bytes, which only the estimate of the time left needs; 0 if unknown)."""
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
    """Return a line of JSON, in ASCII only where the text has lone surrogates, which UTF-8 cannot encode."""
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(record)
    return text + "\n"


class _Progress:
    """Progress: one line, rewritten, on a terminal; elsewhere a line every ten seconds."""

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
    """Return the options of "option=value" texts; values are JSON (`true`, `0.1`) unless the default is text."""
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
    """Return the text of `--list`: of each verifier its summary, options and example, or why it cannot be loaded."""
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
