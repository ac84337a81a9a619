"""Scorers without a model: agreement among a problem's own samples, and a verifier's own score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from star_rft.sampling.verdicts import final_verdict, judged_text
from star_rft.types import Trace, digest
from verifiers.registry import get
from verifiers.workers.pool import Pool


class Majority:
    """The share of its problem's traces that give a trace's answer; None for a trace without one.

    As in `statistics.majority_at_k`, answers that the verifier took for right are one answer, however they are
    written. The share is of all traces of the problem that come in one call.
    """

    version = "1"

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        for _, group in groupby(traces, key=lambda trace: trace.problem.id):
            ballots = [_ballot(trace) for trace in group]
            counts = Counter(ballots)
            yield from (None if ballot is None else counts[ballot] / len(ballots) for ballot in ballots)

    def close(self) -> None:
        """Nothing is held."""


def _ballot(trace: Trace) -> tuple[bool, str] | None:
    answer = trace.verdict.answer
    if answer is None:
        return None
    return (True, "") if trace.verdict.is_correct else (False, answer)


class VerifierScorer:
    """Scores by verdict, None where it is unknown: the one that a trace holds, or that of the verifier `name`."""

    def __init__(
        self,
        name: str | None = None,
        *,
        workers: int | None = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        given = dict(options or {})
        self._pool = None if name is None else Pool(name, workers=workers, timeout=timeout, **given)
        self.version = digest("verifier", name, get(name).version if name else None, given)

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        if self._pool is None:
            yield from (trace.verdict.score for trace in traces)
            return
        pairs = ((judged_text(t.sample.text, t.sample.finish_reason), t.problem.reference) for t in traces)
        for trace, verdict in zip(traces, self._pool.verify_iter(pairs), strict=True):
            yield final_verdict(verdict, trace.sample.finish_reason).score

    def close(self) -> None:
        """Stop the worker processes."""
        if self._pool is not None:
            self._pool.close()
