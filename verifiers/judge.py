"""One check of one completion, in this process: the one place that catches third-party exceptions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

from verifiers.registry import Check
from verifiers.types import REASONS, STATUSES, Verdict

ANSWER_LIMIT = 500


def run_check(check: Check, completion: str, reference: Any, options: Mapping[str, Any]) -> tuple[Verdict, str | None]:
    """Return the verdict, and the traceback if the check failed: a broken check is unknown, never 0."""
    began = time.perf_counter()
    message = None
    try:
        verdict = to_verdict(check, check.function(completion, reference, **options))
    except (Exception, SystemExit):  # noqa: BLE001  # a check is anybody's code
        import traceback

        message = traceback.format_exc(limit=-4)
        verdict = Verdict("unknown", None, None, "fault", check.name, check.version)
    return replace(verdict, seconds=time.perf_counter() - began), message


def to_verdict(check: Check, result: Any) -> Verdict:
    """Wrap what a check returned; raise for anything but a bool, a finite number or a sound Verdict."""
    if isinstance(result, Verdict):
        if result.status not in STATUSES or result.reason not in REASONS:
            raise ValueError(f"{result} has a status or reason outside {STATUSES} and {REASONS}")
        answer = None if result.answer is None else str(result.answer)[:ANSWER_LIMIT]
        score = None if result.status == "unknown" else result.score
        # A check may add how it judged to its version: "+jail".
        version = check.version + (result.version if result.version.startswith("+") else "")
        return replace(result, answer=answer, score=score, verifier=check.name, version=version)
    if isinstance(result, bool):
        if result:
            return Verdict("correct", 1.0, None, "match", check.name, check.version)
        return Verdict("incorrect", 0.0, None, "mismatch", check.name, check.version)
    if not isinstance(result, Real):
        raise TypeError(f"verifier {check.name!r} returned {type(result)}; return a bool, a float or a Verdict")
    score = float(result)
    if score != score:
        raise ValueError(f"verifier {check.name!r} returned NaN")
    if check.threshold is None or score >= check.threshold:
        return Verdict("correct", score, None, "match", check.name, check.version)
    return Verdict("incorrect", score, None, "below_threshold", check.name, check.version)
