"""One check of one completion, in this process: the one place that catches third-party exceptions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from numbers import Real
from typing import Any

from verifiers.registry import Check
from verifiers.types import REASONS, STATUSES, Verdict

ANSWER_LIMIT = 500


def run_check(check: Check, completion: str, reference: Any, options: Mapping[str, Any]) -> tuple[Verdict, str | None]:
    """Return the verdict, and the traceback if the check failed: a broken check is unknown, never 0."""
    began = time.perf_counter()
    try:
        result = check.function(completion, reference, **options)
        return to_verdict(check, result, time.perf_counter() - began), None
    except (Exception, SystemExit):  # noqa: BLE001  # a check is anybody's code
        import traceback

        seconds = time.perf_counter() - began
        message = traceback.format_exc(limit=-4)
        return Verdict("unknown", None, None, "fault", check.name, check.version, seconds), message


def to_verdict(check: Check, result: Any, seconds: float = 0.0) -> Verdict:
    """Wrap what a check returned; raise for anything but a bool, a finite number or a sound Verdict."""
    if isinstance(result, Verdict):
        if result.status not in STATUSES or result.reason not in REASONS:
            raise ValueError(f"{result} has a status or reason outside {STATUSES} and {REASONS}")
        score = None if result.status == "unknown" else result.score
        # A check may add how it judged to its version: "+jail".
        version = check.version + result.version if result.version.startswith("+") else check.version
        # Built once: `dataclasses.replace` would take longer than most checks of a number.
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


def _shown(answer: Any) -> str | None:
    """Return an answer that any file can hold: not too long, and without the halves of broken characters."""
    if answer is None:
        return None
    text = str(answer)[:ANSWER_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
