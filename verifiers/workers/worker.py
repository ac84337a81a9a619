"""The worker process: reads frames of pairs, checks them, writes rows.

A worker is a plain `python -c` with two pipes. So it never imports the caller's `__main__` again, inherits
neither threads nor CUDA state from a parent with torch, and starts in 40 ms.
"""

from __future__ import annotations

import marshal
import os
import pickle
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from verifiers import registry
from verifiers.registry import Check
from verifiers.types import REASONS, STATUSES, Verdict
from verifiers.workers import heartbeat

HEADER = struct.Struct("<Q")
# Rows are collected this long before they are sent: few system calls, and little to check again after a kill.
_FLUSH_SECONDS = 0.005
_WARM_UP_AFTER = 0.05  # seconds without an item

# A verdict as it is sent: status, score, answer, reason, version, seconds; and the traceback of a check that raised.
Row = tuple[str, float | None, str | None, str, str, float, str | None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker needs to build a check: the import path of its function, or the function in a pickle."""

    name: str
    version: str
    threshold: float | None
    options: Mapping[str, Any]
    path: str | None
    shipped: bytes | None
    sys_path: list[str]
    parts: tuple[Recipe, ...] = ()

    def build(self) -> Check:
        """Return the check, with its parts registered; raises whatever the import raises."""
        for part in self.parts:
            registry.add(part.build())
        if self.path is not None:
            check = registry.get(self.path)
        else:
            assert self.shipped is not None
            check = registry.describe(self.name, pickle.loads(self.shipped))
        if self.parts:
            check = check.bound(self.options)
        return replace(check, name=self.name, version=self.version, threshold=self.threshold)


def main() -> None:
    """Run the worker process. `argv`: the file descriptor of the heartbeat, and the parent's process id."""
    requests, results = _claim_pipes()
    beat = heartbeat.Heartbeat(int(sys.argv[1]))
    heartbeat.adopt(beat)
    _die_with_parent(int(sys.argv[2]))
    recipe = pickle.loads(_read_frame(requests) or b"")
    sys.path[:] = recipe.sys_path
    try:
        check = recipe.build()
    except (Exception, SystemExit):  # noqa: BLE001  # an import may raise anything; the parent raises it again
        _write_frame(results, traceback.format_exc())
        return
    _write_frame(results, [])  # tells the parent that the check is loaded
    _serve(requests, results, beat, check, recipe.options)


def _serve(requests: int, results: int, beat: heartbeat.Heartbeat, check: Check, options: Mapping[str, Any]) -> None:
    warm_up: Callable[[], None] | None = check.warm_up
    started = 0
    while True:
        # Idle for a moment: load now what some items need, rather than in the first of them.
        if warm_up is not None and not select.select([requests], [], [], _WARM_UP_AFTER)[0]:
            warm_up()
            warm_up = None
        frame = _read_frame(requests)
        if frame is None:
            return
        rows: list[Row] = []
        flushed = time.perf_counter()
        for payload in marshal.loads(frame):
            started += 1
            beat.begin(started)
            rows.append(_row(check, payload, options))
            if time.perf_counter() - flushed > _FLUSH_SECONDS:
                _write_frame(results, rows)
                rows = []
                flushed = time.perf_counter()
        if rows:
            _write_frame(results, rows)


def _row(check: Check, payload: bytes, options: Mapping[str, Any]) -> Row:
    try:
        completion, reference = pickle.loads(payload)
    except (Exception, SystemExit):  # noqa: BLE001  # a class of the caller's that only the caller can import
        return "unknown", None, None, "fault", check.version, 0.0, traceback.format_exc(limit=-2)
    verdict, message = run_check(check, completion, reference, options)
    facts = verdict.status, verdict.score, verdict.answer, verdict.reason, verdict.version
    return *facts, verdict.seconds, message


def _claim_pipes() -> tuple[int, int]:
    """Return the two pipes, moved away from standard input and output: what a check prints must not enter them."""
    requests, results = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, results


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with_parent(parent: int) -> None:
    """Have Linux kill this process when the parent dies; elsewhere the closed pipe ends it, if it reads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call above
        os._exit(1)


def _read_frame(fd: int) -> bytes | None:
    header = _read_exactly(fd, HEADER.size)
    return None if header is None else _read_exactly(fd, HEADER.unpack(header)[0])


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write_frame(fd: int, content: list[Row] | str) -> None:
    body = marshal.dumps(content)
    data = memoryview(HEADER.pack(len(body)) + body)
    while data:
        data = data[os.write(fd, data) :]


def run_check(check: Check, completion: str, reference: Any, options: Mapping[str, Any]) -> tuple[Verdict, str | None]:
    """Return (the verdict, the traceback if the check raised): a broken check is unknown, never incorrect."""
    began = time.perf_counter()
    try:
        result = check.function(completion, reference, **options)
        return _to_verdict(check, result, time.perf_counter() - began), None
    except (Exception, SystemExit):  # noqa: BLE001  # a check is anybody's code
        seconds = time.perf_counter() - began
        message = traceback.format_exc(limit=-4)
        return Verdict("unknown", None, None, "fault", check.name, check.version, seconds), message


def _to_verdict(check: Check, result: Any, seconds: float = 0.0) -> Verdict:
    """Return what a check returned as a Verdict; raise for anything but a bool, a number or a valid Verdict."""
    if isinstance(result, Verdict):
        if result.status not in STATUSES or result.reason not in REASONS:
            raise ValueError(f"{result} has a status or reason outside {STATUSES} and {REASONS}")
        score = None if result.status == "unknown" else result.score
        # A check may append how it judged to its version, as in "1+jail".
        version = check.version + result.version if result.version.startswith("+") else check.version
        # Not by `dataclasses.replace`, which takes longer than most checks of a number.
        return Verdict(result.status, score, _shown(result.answer), result.reason, check.name, version, seconds)
    if isinstance(result, bool):
        if result:
            return Verdict("correct", 1.0, None, "match", check.name, check.version, seconds)
        return Verdict("incorrect", 0.0, None, "mismatch", check.name, check.version, seconds)
    if not isinstance(result, Real):
        raise TypeError(f"verifier {check.name!r} returned {type(result)}; return a bool, a float or a Verdict")
    score = float(result)
    if score != score:
        raise ValueError(f"verifier {check.name!r} returned NaN")
    if check.threshold is None or score >= check.threshold:
        return Verdict("correct", score, None, "match", check.name, check.version, seconds)
    return Verdict("incorrect", score, None, "below_threshold", check.name, check.version, seconds)


_ANSWER_LIMIT = 500  # characters


def _shown(answer: Any) -> str | None:
    """Return an answer that any file can hold: cut, and without surrogates, which UTF-8 cannot encode."""
    if answer is None:
        return None
    text = str(answer)[:_ANSWER_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
