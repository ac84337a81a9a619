"""Scores by the score of a verifier's verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from star_rft.sampling.verdicts import final_verdict, judged_text
from star_rft.types import Trace, digest
from verifiers.registry import get
from verifiers.workers.pool import Pool


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
