"""Draw planned completions unit by unit; `keeping.py` verifies and commits them while the next are drawn."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from star_rft.errors import RunFailure
from star_rft.frontier.plan import Unit
from star_rft.keeping import Job, Keeper, Store, VerifierPool
from star_rft.progress import Sampling
from star_rft.runs.timing import Note, Span, ignore
from star_rft.types import Completion, Decoding, Problem, Request, Sample, Sampler, Split, digest
from verifiers.tally import Tally
from verifiers.types import Verdict

_LAST_WORD = re.compile(r"\S+\Z")


class Committing(Store, Protocol):
    """A store that says what it holds already."""

    def units(self) -> Mapping[str, object]: ...

    def record_decoding(self, decoding: Decoding) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Who draws a unit and how.

    `model` is its fingerprint; `render` gives the prompt of an attempt, and `encode` its tokens.
    `leaks` tells of a trace whether it shows the hint that the prompt held; None where there is no hint.
    """

    sampler: Callable[[], Sampler]
    model: str
    decoding: Decoding
    render: Callable[[Problem, int], str]
    leaks: Callable[[str, Problem], bool] | None = None
    encode: Callable[[str], tuple[int, ...] | None] | None = None

    def requests(self, unit: Unit, problems: Mapping[str, Problem]) -> list[Request]:
        """Return what is asked for in a unit; each prompt is tokenised once."""
        found, ids = list[Request](), dict[str, tuple[int, ...] | None]()
        for planned in unit.requests():
            text = self.render(problems[planned.problem_id], planned.attempt)
            if text not in ids:
                ids[text] = None if self.encode is None else self.encode(text)
            found.append(Request(planned.problem_id, planned.attempt, text, planned.seed, ids[text]))
        return found


def draw(
    units: Sequence[Unit],
    *,
    round: int,
    ask: Callable[[Unit], Asked],
    problems: Mapping[Split, Mapping[str, Problem]],
    pool: VerifierPool,
    ledger: Committing,
    watched: Sampling,
    stage: str = "sample",
    note: Note = ignore,
) -> dict[str, float]:
    """Draw every unit that the ledger does not hold yet. A unit commits whole or is drawn again whole.

    A sampler is asked for at the first missing unit only: a finished plan loads no model. Returns the seconds spent
    inside samplers (`sample`), and those that verification and writing added to them (`verify`). RunFailure where a
    sampler does not give exactly one completion a request.
    """
    missing = to_draw(units, ledger, lambda unit: ask(unit).decoding)
    spent = {"sample": 0.0, "verify": 0.0}
    if not missing:
        return spent
    ended = perf_counter()
    with Keeper(pool, ledger, watched, note) as keeper:
        for unit in missing:
            seconds = _draw(unit, ask(unit), problems[unit.split], keeper, watched, round=round, stage=stage, note=note)
            spent = {name: spent[name] + seconds[name] for name in spent}
        ended = perf_counter()
    spent["verify"] += perf_counter() - ended
    return spent


def to_draw(units: Sequence[Unit], ledger: Committing, decoding: Callable[[Unit], Decoding]) -> list[Unit]:
    """Return the units that the ledger does not hold yet; how they are drawn is recorded, before any of them is."""
    committed = ledger.units()
    missing = [unit for unit in units if unit.name not in committed]
    for unit in missing:
        ledger.record_decoding(decoding(unit))
    return missing


def _draw(
    unit: Unit,
    asked: Asked,
    problems: Mapping[str, Problem],
    keeper: Keeper,
    watched: Sampling,
    *,
    round: int,
    stage: str,
    note: Note,
) -> dict[str, float]:
    """Hand the completions of a unit over as they finish; return the seconds that this took, and that it waited."""
    sampler = asked.sampler()
    began, started, blocked = time.time(), perf_counter(), 0.0
    waiting = {(r.problem_id, r.attempt): r for r in asked.requests(unit, problems)}
    job = Job(
        name=unit.name,
        round=round,
        stage=stage,
        size=len(waiting),
        question=partial(_question, problems),
        joined=partial(_joined, problems, asked, unit.split, round),
    )
    drawn = sampler.sample(list(waiting.values()), decoding=asked.decoding, batch_size=unit.batch_size)
    for completion in drawn:
        request = completion.request
        if waiting.pop((request.problem_id, request.attempt), None) is None:
            raise RunFailure(f"the sampler answered problem {request.problem_id}, attempt {request.attempt} twice")
        watched.drawn(len(completion.token_ids))
        if not waiting:
            job.seconds = {"sample": perf_counter() - started - blocked, "verify": blocked}
        blocked += keeper.hand(job, completion)
    if waiting:
        raise RunFailure(f"the sampler left {len(waiting)} of {job.size} requests of unit {unit.name} unanswered")
    spent = perf_counter() - started
    note(Span("model", stage, round, began, time.time(), spent - blocked, blocked))
    return {"sample": spent - blocked, "verify": blocked}


def _question(problems: Mapping[str, Problem], completion: Completion) -> tuple[str, Any]:
    text = judged_text(completion.text, completion.finish_reason)
    return text, problems[completion.request.problem_id].reference


def _joined(
    problems: Mapping[str, Problem], asked: Asked, split: Split, round: int, completion: Completion, verdict: Verdict
) -> tuple[Sample, Verdict]:
    problem = problems[completion.request.problem_id]
    sample = _sample(completion, problem, asked, split=split, round=round)
    return sample, final_verdict(verdict, completion.finish_reason)


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
        ids_are_sampled=completion.ids_are_sampled,
    )
