"""Draw planned completions unit by unit; `keeping.py` verifies and commits them while the next are drawn."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from star_rft.errors import RunError, RunFailure
from star_rft.ledger import Ledger, batches
from star_rft.progress import Progress, Sampling
from star_rft.runs.timing import Note, Span, ignore
from star_rft.sampling import hints
from star_rft.sampling.plan import PLAN, Asking, Ints, Unit, plan_table
from star_rft.sampling.policy import Render, Source
from star_rft.sampling.writer import Job, Keeper, Store, VerifierPool
from star_rft.types import Completion, Decoding, Model, Problem, Request, Sample, Sampler, Split, digest
from verifiers.rewards import Tally
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


class Cluster(Protocol):
    """What draws units on other machines; `ray.Cluster` does."""

    @property
    def batch_size(self) -> int: ...

    def draw(
        self,
        units: Sequence[Unit],
        *,
        round: int,
        ask: Callable[[Unit], tuple[Asked, Model]],
        problems: Mapping[Split, Mapping[str, Problem]],
        ledger: Ledger,
        watched: Sampling,
        stage: str,
        note: Note,
    ) -> dict[str, float]: ...


PROMPTS_COMPARED = 32  # with what was sampled, when a run is resumed


@dataclass(frozen=True, slots=True)
class Drawing:
    """What every sample of a run goes through, whichever split and source it is of."""

    ledger: Ledger
    problems: Mapping[Split, Sequence[Problem]]
    engine: Engine
    pool: VerifierPool
    progress: Progress
    fingerprint: Callable[[Model], str]
    seed: int
    unit_size: int
    note: Note = ignore
    cluster: Cluster | None = None

    def problems_of(self, split: Split) -> Sequence[Problem]:
        return self.problems.get("dev" if split == "probe" else split, ())

    def planned(
        self,
        round: int,
        split: Split,
        source: Source,
        policy: Model,
        problems: Sequence[Problem],
        *,
        counts: Ints | None = None,
        begins: Ints | int = 0,
        wave: int = 0,
    ) -> pa.Table:
        """Plan attempts of a source: all of them, or `counts` more of each problem after the first `begins`."""
        wanted = np.full(len(problems), len(source.attempts)) if counts is None else counts
        asked = [problem for problem, count in zip(problems, wanted, strict=True) if count > 0]
        if not asked:
            return PLAN.empty_table()
        longest = source.longest_prompt(asked)
        asking = Asking(
            round,
            split,
            source.name,
            [decoding.id for decoding in source.decodings],
            [self._batch_size(source.model or policy, longest, decoding) for decoding in source.decodings],
            first=source.attempts.start,
        )
        ids = [problem.id for problem in problems]
        sizes = {"run_seed": self.seed, "unit_size": self.unit_size, "wave": wave}
        return plan_table(ids, asking, counts=wanted, begins=begins, **sizes)

    def draw(
        self, title: str, round: int, units: Sequence[Unit], policy: Model, sources: Sequence[Source]
    ) -> dict[str, float]:
        """Draw what is missing; return the seconds inside the sampler and those that verification added."""
        decodings = {decoding.id: decoding for source in sources for decoding in source.decodings}
        by_name = {source.name: source for source in sources}

        def ask(unit: Unit) -> tuple[Asked, Model]:
            source = by_name[unit.source]
            model = source.model or policy
            asked = Asked(
                sampler=lambda: self.engine.sampler(model),
                model=self.fingerprint(model),
                decoding=_decoding_of(unit, decodings),
                render=source.render,
                encode=source.encode,
                leaks=hints.leaks if source.is_hinted else None,
            )
            return asked, model

        committed = self.ledger.units()
        done = sum(len(unit) for unit in units if unit.name in committed)
        with self.progress.sampling(title, sum(map(len, units)), done=done, round=round) as watched:
            shared: dict[str, Any] = {
                "round": round,
                "problems": {split: {p.id: p for p in self.problems_of(split)} for split in {u.split for u in units}},
                "ledger": self.ledger,
                "watched": watched,
                "stage": title,
                "note": self.note,
            }
            if self.cluster is not None:
                seconds = self.cluster.draw(units, ask=ask, **shared)
            else:
                counted = Counted(self.pool)
                seconds = draw(units, ask=lambda unit: ask(unit)[0], pool=counted, **shared)
                counted.tally.warn()
        self.ledger.compact()
        return seconds

    def check_prompts(self, render: Render) -> None:
        """Raise RunError where a held-out prompt is rendered differently now than when the run sampled it."""
        query = (
            "select problem_id, split, any_value(prompt_sha) from samples where split in ('dev', 'test')"
            f" group by all order by problem_id, split limit {PROMPTS_COMPARED}"
        )
        problems = {(split, p.id): p for split, found in self.problems.items() for p in found}
        for problem_id, split, sha in self.ledger.connect().execute(query).fetchall():
            problem = problems.get((split, problem_id))
            if problem is not None and digest(render(problem)) != sha:
                raise RunError(
                    f"{self.ledger.run_dir}: the prompt of problem {problem_id} is rendered differently now than when"
                    " it was sampled: the model's chat template, or the version of transformers, has changed. Restore"
                    " it, or begin another run"
                )

    def _batch_size(self, model: Model, longest_prompt: int, decoding: Decoding) -> int:
        if self.cluster is not None:
            return self.cluster.batch_size
        return self.engine.sampler(model).batch_size_for(longest_prompt, decoding)

    def verify_again(self) -> dict[str, int]:
        """Judge every sample of the ledger with the verifier as it is now; newer verdicts supersede older ones.

        Returns how many verdicts changed, by "from -> to".
        """
        references = {p.id: p.reference for problems in self.problems.values() for p in problems}
        units = self.ledger.units()
        query = "select sample_id, problem_id, text, finish_reason, status from traces order by sample_id"
        total = sum(line["rows"] for line in units.values() if "samples" in line["parts"])
        counted, changed = Counted(self.pool), Counter[str]()
        with self.progress.stage("verifying again", total) as advance:
            for index, rows in enumerate(batches(self.ledger.connect(), query)):
                pairs = ((judged_text(r["text"], r["finish_reason"]), references[r["problem_id"]]) for r in rows)
                found = zip(rows, counted.verify_iter(pairs), strict=True)
                judged = [(row, final_verdict(verdict, row["finish_reason"])) for row, verdict in found]
                changed.update(f"{r['status']} -> {v.status}" for r, v in judged if r["status"] != v.status)
                newer = [(row["sample_id"], row["text"], verdict) for row, verdict in judged]
                self.ledger.supersede(f"verify-{len(units):05d}-{index:05d}", newer)
                advance(len(rows), 0)
        counted.tally.warn()
        return dict(changed)


def _decoding_of(unit: Unit, decodings: Mapping[str, Decoding]) -> Decoding:
    """Return how a unit is drawn; RunError where that is not how it was planned."""
    if unit.decode_id not in decodings:
        now = next(iter(decodings.values()))
        raise RunError(
            f"unit {unit.name} was planned for another engine than {now.backend} {now.backend_version}, whose samples"
            " would not mix: install the version that config.yaml names, or begin another run"
        )
    return decodings[unit.decode_id]


@dataclass(slots=True)
class Engine:
    """At most one loaded sampler: kept from evaluation to the next round's sampling, freed before training."""

    make: Callable[[Model], Sampler]
    _model: Model | None = None
    _sampler: Sampler | None = None

    def sampler(self, model: Model) -> Sampler:
        if self._sampler is None or self._model != model:
            self.release()
            self._model, self._sampler = model, self.make(model)
        return self._sampler

    def release(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        self._model = self._sampler = None
