"""The scorer `majority`: agreement among a problem's own samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from star_rft.scorers.registry import ScorerContext, scorer
from star_rft.types import Scorer, Trace


@scorer()
def majority(_: ScorerContext) -> Scorer:
    """The share of a problem's samples that give the same answer as the trace."""
    return Majority()


class Majority:
    """Gives a trace the share of its problem's traces with the same answer; None where it has no answer.

    As in `statistics.majority_at_k`, answers that the verifier judged correct count as one answer, however they are
    written. The share is of all traces of the problem in one call of `score`.
    """

    version = "1"

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        """Yield a score from 0 to 1 a trace, in order."""
        for _, group in groupby(traces, key=lambda trace: trace.problem.id):
            ballots = [_ballot(trace) for trace in group]
            counts = Counter(ballots)
            yield from (None if ballot is None else counts[ballot] / len(ballots) for ballot in ballots)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def _ballot(trace: Trace) -> tuple[bool, str] | None:
    answer = trace.verdict.answer
    if answer is None:
        return None
    return (True, "") if trace.verdict.is_correct else (False, answer)
