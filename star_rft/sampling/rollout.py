"""Draws the completions of a plan, unit by unit, while `writer.py` verifies and commits those before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import pyarrow as pa

from star_rft.errors import RunError, RunFailure
from star_rft.ledger import Ledger, batches
from star_rft.progress import Progress, Sampling
from star_rft.runs.timing import Note, Span, ignore
from star_rft.sampling.jobs import UnitJob, decoding_of, jobs_of
from star_rft.sampling.plan import PLAN, Asking, Ints, Unit, plan_table
from star_rft.sampling.policy import Render, Source
from star_rft.sampling.writer import CountedPool, OpenUnit, Store, VerifierPool, Writer, final_verdict, judged_text
from star_rft.types import Decoding, Model, Problem, Sampler, Split, digest


def draw(
    jobs: Iterable[UnitJob],
    *,
    sampler: Callable[[Model], Sampler],
    pool: VerifierPool,
    store: Store,
    watched: Sampling,
    note: Note = ignore,
) -> dict[str, float]:
    """Draw every job in turn. A unit commits whole or is drawn again whole.

    A model is loaded at the first job that needs it. Returns the seconds spent inside samplers (`sample`), and those
    that verification and writing added to them (`verify`). RunFailure where a sampler does not give exactly one
    completion a request.
    """
    spent = {"sample": 0.0, "verify": 0.0}
    with Writer(pool, store, watched, note) as writer:
        turn = perf_counter()
        for job in jobs:
            rendering = perf_counter() - turn  # is part of a unit's time; loading a model is not
            engine = sampler(job.policy)
            began, started = time.time() - rendering, perf_counter() - rendering
            blocked = _draw(job, engine, writer, watched, started=started)
            ended = perf_counter()
            seconds = {"sample": ended - started - blocked, "verify": blocked}
            note(Span("model", job.stage, job.round, began, time.time(), seconds["sample"], blocked))
            spent = {name: spent[name] + seconds[name] for name in spent}
            turn = ended
        turn = perf_counter()
    spent["verify"] += perf_counter() - turn
    return spent


def _draw(job: UnitJob, sampler: Sampler, writer: Writer, watched: Sampling, *, started: float) -> float:
    """Hand the completions of a unit over as they finish; return the seconds that this had to wait."""
    unit, blocked = OpenUnit(job), 0.0
    waiting = {(request.problem_id, request.attempt) for request in job.requests}
    for completion in sampler.sample(job.requests, decoding=job.decoding, batch_size=job.unit.batch_size):
        request = completion.request
        if (request.problem_id, request.attempt) not in waiting:
            raise RunFailure(f"the sampler answered problem {request.problem_id}, attempt {request.attempt} twice")
        waiting.remove((request.problem_id, request.attempt))
        watched.drawn(len(completion.token_ids))
        if not waiting:
            unit.seconds = {"sample": perf_counter() - started - blocked, "verify": blocked}
        blocked += writer.hand(unit, completion)
    if waiting:
        raise RunFailure(
            f"the sampler left {len(waiting)} of {len(job.requests)} requests of unit {job.unit.name} unanswered"
        )
    return blocked


class Cluster(Protocol):
    """What draws units on other machines; `ray.Cluster` does."""

    @property
    def batch_size(self) -> int: ...

    def draw(self, jobs: Iterable[UnitJob], *, ledger: Ledger, watched: Sampling, note: Note) -> dict[str, float]: ...


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
        committed = self.ledger.units()
        missing = [unit for unit in units if unit.name not in committed]
        for unit in missing:  # before any of them is drawn
            self.ledger.record_decoding(decoding_of(unit, sources))
        jobs = jobs_of(
            missing,
            sources,
            round=round,
            stage=title,
            policy=policy,
            model_id=self.fingerprint,
            problems={split: {p.id: p for p in self.problems_of(split)} for split in {u.split for u in missing}},
        )
        sizes = [len(unit) for unit in units]
        done = sum(sizes) - sum(map(len, missing))
        with self.progress.sampling(title, sum(sizes), done=done, round=round) as watched:
            if not missing:
                seconds = {"sample": 0.0, "verify": 0.0}
            elif self.cluster is not None:
                seconds = self.cluster.draw(jobs, ledger=self.ledger, watched=watched, note=self.note)
            else:
                pool, sampler = CountedPool(self.pool), self.engine.sampler
                seconds = draw(jobs, sampler=sampler, pool=pool, store=self.ledger, watched=watched, note=self.note)
                pool.tally.warn()
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
        counted, changed = CountedPool(self.pool), Counter[str]()
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
