"""Draw planned completions, have them verified while the next are drawn, commit them unit by unit."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

from star_rft.frontier.plan import Unit
from star_rft.ledger import Ledger
from star_rft.progress import Sampling
from star_rft.types import Completion, Decoding, Problem, Request, Sample, Sampler, Split, digest
from verifiers.tally import Tally
from verifiers.types import Verdict

_LAST_WORD = re.compile(r"\S+\Z")


class VerifierPool(Protocol):
    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Who draws a unit and how: `model` is its fingerprint, `render` gives the prompt of an attempt.

    `leaks` tells of a trace whether it shows the hint that the prompt held; None where there is no hint.
    """

    sampler: Callable[[], Sampler]
    model: str
    decoding: Decoding
    render: Callable[[Problem, int], str]
    leaks: Callable[[str, Problem], bool] | None = None


def draw(
    units: Sequence[Unit],
    *,
    round: int,
    ask: Callable[[Unit], Asked],
    problems: Mapping[Split, Mapping[str, Problem]],
    pool: VerifierPool,
    ledger: Ledger,
    watched: Sampling,
) -> dict[str, float]:
    """Draw every unit that the ledger does not hold yet. A unit commits whole or is drawn again whole.

    A sampler is asked for at the first missing unit only: a finished plan loads no model. Returns the seconds spent
    inside samplers (`sample`) and on top of that (`verify`).
    """
    committed = ledger.units()
    spent = {"sample": 0.0, "verify": 0.0}
    for unit in units:
        if unit.name in committed:
            continue
        asked, by_id = ask(unit), problems[unit.split]
        ledger.record_decoding(asked.decoding)
        requests = [
            Request(r.problem_id, r.attempt, asked.render(by_id[r.problem_id], r.attempt), r.seed)
            for r in unit.requests()
        ]
        started = perf_counter()
        drawn = asked.sampler().sample(requests, decoding=asked.decoding, batch_size=unit.batch_size)
        stream = _Timed(drawn, watched)
        pairs = []
        for completion, verdict in verified(stream, problems=by_id, pool=pool):
            problem = by_id[completion.request.problem_id]
            sample = _sample(completion, problem, asked, split=unit.split, round=round)
            pairs.append((sample, verdict))
            watched.judged()
        elapsed = perf_counter() - started
        pairs.sort(key=lambda pair: (pair[0].problem_id, pair[0].attempt))
        seconds = {"sample": stream.seconds, "verify": elapsed - stream.seconds}
        ledger.commit(unit.name, pairs, seconds=seconds)
        spent = {stage: spent[stage] + seconds[stage] for stage in spent}
    return spent


def verified(
    completions: Iterator[Completion], *, problems: Mapping[str, Problem], pool: VerifierPool
) -> Iterator[tuple[Completion, Verdict]]:
    """Join each completion to its verdict. The pool's workers check while this process draws the next ones."""
    waiting: deque[Completion] = deque()

    def pairs() -> Iterator[tuple[str, Any]]:
        for completion in completions:
            waiting.append(completion)
            text = judged_text(completion.text, completion.finish_reason)
            yield text, problems[completion.request.problem_id].reference

    for verdict in pool.verify_iter(pairs()):
        completion = waiting.popleft()
        yield completion, final_verdict(verdict, completion.finish_reason)


def judged_text(text: str, finish_reason: str) -> str:
    """Leave out the last word of a completion that hit the token limit: `#### 1` may have been `#### 18`."""
    return _LAST_WORD.sub("", text) if finish_reason == "length" else text


def final_verdict(verdict: Verdict, finish_reason: str) -> Verdict:
    """Call a cut-off completion `truncated` unless it had answered correctly before it ran on."""
    if finish_reason == "length" and verdict.status == "incorrect":
        return replace(verdict, reason="truncated")
    return verdict


class Counted:
    """A pool whose verdicts are counted as they pass, for the warning when too many are unknown."""

    def __init__(self, pool: VerifierPool) -> None:
        self.pool = pool
        self.tally = Tally()

    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]:
        return self.tally.watch(self.pool.verify_iter(pairs))


class _Timed:
    """An iterator that adds up the time spent inside it: the sampler's share of the wall time."""

    def __init__(self, source: Iterator[Completion], watched: Sampling) -> None:
        self.source = source
        self.watched = watched
        self.seconds = 0.0

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> Completion:
        started = perf_counter()
        try:
            completion = next(self.source)
        finally:
            self.seconds += perf_counter() - started
        self.watched.drawn(len(completion.token_ids))
        return completion


def _sample(completion: Completion, problem: Problem, asked: Asked, *, split: Split, round: int) -> Sample:
    request = completion.request
    return Sample(
        problem_id=request.problem_id,
        split=split,
        round=round,
        attempt=request.attempt,
        model=asked.model,
        decode_id=asked.decoding.id,
        prompt_sha=digest(request.prompt),
        seed=request.seed,
        hinted=asked.leaks is not None,
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        logprob=completion.logprob,
        leaks_hint=asked.leaks is not None and asked.leaks(completion.text, problem),
    )
