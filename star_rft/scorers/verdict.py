"""Scores that are those of a verifier's verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from star_rft.sampling.verdicts import final_verdict, judged_text
from star_rft.types import Trace, digest
from verifiers.registry import get
from verifiers.workers.pool import Pool


class VerifierScorer:
    """Gives a trace the score of its verdict, or of the verdict of another verifier; None where that is unknown.

    Args:
        name: The other verifier; None: the verdict that the trace has.
        workers: Its worker processes; None: one a core.
        timeout: Seconds a trace; None: the verifier's default.
        options: Its options.
    """

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
        """Yield a score a trace, in order."""
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
