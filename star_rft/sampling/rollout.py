"""Draws the completions of a plan, unit by unit, while `writer.py` verifies and commits those before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
import pyarrow as pa

from star_rft.errors import RunError, RunFailure
from star_rft.ledger import Ledger
from star_rft.progress import SamplingProgress
from star_rft.runs.timing import Note, Span, ignore
from star_rft.sampling.context import RunContext
from star_rft.sampling.jobs import UnitJob, decoding_of, jobs_of
from star_rft.sampling.plan import PLAN, PlanSpec, Unit, plan_table, read_plan
from star_rft.sampling.policy import Render, Source
from star_rft.sampling.writer import CountedPool, OpenUnit, Store, VerifierPool, Writer
from star_rft.statistics import Ints
from star_rft.types import Decoding, Model, Problem, Sampler, Split, digest


def draw_jobs(
    jobs: Iterable[UnitJob],
    *,
    sampler_of: Callable[[Model], Sampler],
    pool: VerifierPool,
    store: Store,
    watched: SamplingProgress,
    note: Note = ignore,
) -> dict[str, float]:
    """Draw every job in turn. A unit commits whole or is drawn again whole.

    Args:
        jobs: Units with rendered prompts.
        sampler_of: Loads a model, at the first job that needs it.
        pool: Verifies the completions.
        store: Takes whole units.
        watched: Counts what is drawn and verified.
        note: Takes the spans of the timeline.

    Returns:
        The seconds spent inside samplers (`sample`), and those that verification and writing added (`verify`).

    Raises:
        RunFailure: A sampler did not give exactly one completion for each request.
    """
    spent = {"sample": 0.0, "verify": 0.0}
    with Writer(pool, store, watched, note) as writer:
        turn = perf_counter()
        for job in jobs:
            rendering = perf_counter() - turn  # is part of a unit's time; loading a model is not
            sampler = sampler_of(job.model)
            began, started = time.time() - rendering, perf_counter() - rendering
            blocked = _draw_unit(job, sampler, writer, watched, started=started)
            ended = perf_counter()
            seconds = {"sample": ended - started - blocked, "verify": blocked}
            note(Span("model", job.stage, job.round, began, time.time(), seconds["sample"], blocked))
            spent = {name: spent[name] + seconds[name] for name in spent}
            turn = ended
        turn = perf_counter()
    spent["verify"] += perf_counter() - turn
    return spent


def _draw_unit(job: UnitJob, sampler: Sampler, writer: Writer, watched: SamplingProgress, *, started: float) -> float:
    """Pass a unit's completions to the writer as they finish; return the seconds that this waited for the writer."""
    unit, blocked = OpenUnit(job), 0.0
    waiting = {(request.problem_id, request.sample_index) for request in job.requests}
    for completion in sampler.sample(job.requests, decoding=job.decoding, batch_size=job.unit.batch_size):
        request = completion.request
        if (request.problem_id, request.sample_index) not in waiting:
            raise RunFailure(f"the sampler answered problem {request.problem_id}, sample {request.sample_index} twice")
        waiting.remove((request.problem_id, request.sample_index))
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
    """Draws units on other machines: `sampling.ray.Cluster`."""

    @property
    def batch_size(self) -> int:
        """What plans record: completions that an engine draws at once."""
        ...

    def draw(
        self, jobs: Iterable[UnitJob], *, ledger: Ledger, watched: SamplingProgress, note: Note
    ) -> dict[str, float]:
        """Draw every job into the ledger; return seconds as `draw_jobs` does."""
        ...


PROMPTS_COMPARED = 32  # problems whose prompt is rendered again when a run is resumed


@dataclass(frozen=True, slots=True)
class Rollout:
    """Plans and draws the samples of a run, whichever split and source they are of, by `pool`'s verdicts.

    Units are drawn in this process, or by a cluster where there is one.
    """

    context: RunContext
    pool: VerifierPool
    unit_size: int
    cluster: Cluster | None = None

    def planned(
        self,
        round_index: int,
        split: Split,
        source: Source,
        policy: Model,
        problems: Sequence[Problem],
        *,
        counts: Ints | None = None,
        begins: Ints | int = 0,
        wave: int = 0,
    ) -> pa.Table:
        """Plan samples of a source: all of them, or `counts` more of each problem after the `begins` that it has."""
        wanted = np.full(len(problems), len(source.sample_indices)) if counts is None else counts
        asked = [problem for problem, count in zip(problems, wanted, strict=True) if count > 0]
        if not asked:
            return PLAN.empty_table()
        longest = source.longest_prompt(asked)
        spec = PlanSpec(
            round_index,
            split,
            source.name,
            [decoding.id for decoding in source.decodings],
            [self._batch_size(source.model or policy, longest, decoding) for decoding in source.decodings],
            first=source.sample_indices.start,
        )
        ids = [problem.id for problem in problems]
        sizes = {"run_seed": self.context.seed, "unit_size": self.unit_size, "wave": wave}
        return plan_table(ids, spec, counts=wanted, begins=begins, **sizes)

    def draw(
        self, title: str, round_index: int, units: Sequence[Unit], policy: Model, sources: Sequence[Source]
    ) -> None:
        """Draw, verify and commit the units that the ledger does not hold yet, and record the seconds of the round."""
        context = self.context
        committed = context.ledger.units()
        missing = [unit for unit in units if unit.name not in committed]
        for unit in missing:  # before any of them is drawn
            context.ledger.record_decoding(decoding_of(unit, sources))
        jobs = jobs_of(
            missing,
            sources,
            round_index=round_index,
            stage=title,
            policy=policy,
            model_id=context.engine.fingerprint,
            problems={split: {p.id: p for p in context.problems_of(split)} for split in {u.split for u in missing}},
        )
        total, left = sum(map(len, units)), sum(map(len, missing))
        with context.progress.sampling(title, total, done=total - left, round_index=round_index) as watched:
            seconds = self._draw_jobs(jobs, watched) if missing else {}
        context.ledger.compact()
        if any(unit.split in ("train", "probe") for unit in units):  # held-out sampling is timed by the evaluation
            context.timing.add(round_index, seconds)

    def draw_again(
        self, plan: Path, round_index: int, policy: Model, sources: Sequence[Source], lost: Collection[str]
    ) -> None:
        """Draw those units of a plan that are `lost`: their parts of the ledger were damaged. No plan, no units."""
        units = [unit for unit in (read_plan(plan) if plan.exists() else []) if unit.name in lost]
        if units:
            self.draw("drawing damaged samples again", round_index, units, policy, sources)

    def _draw_jobs(self, jobs: Iterable[UnitJob], watched: SamplingProgress) -> dict[str, float]:
        context, note = self.context, self.context.timing.note
        if self.cluster is not None:
            return self.cluster.draw(jobs, ledger=context.ledger, watched=watched, note=note)
        pool = CountedPool(self.pool)
        seconds = draw_jobs(
            jobs, sampler_of=context.engine.sampler, pool=pool, store=context.ledger, watched=watched, note=note
        )
        pool.tally.warn()
        return seconds

    def _batch_size(self, model: Model, longest_prompt: int, decoding: Decoding) -> int:
        if self.cluster is not None:
            return self.cluster.batch_size
        return self.context.engine.sampler(model).batch_size_for(longest_prompt, decoding)


def check_prompts(ledger: Ledger, problems: Mapping[Split, Sequence[Problem]], render: Render) -> None:
    """Raise RunError where a held-out prompt is rendered differently now than when the run sampled it."""
    query = (
        "select problem_id, split, any_value(prompt_sha) from samples where split in ('dev', 'test')"
        f" group by all order by problem_id, split limit {PROMPTS_COMPARED}"
    )
    by_id = {(split, p.id): p for split, found in problems.items() for p in found}
    for problem_id, split, sha in ledger.connect().execute(query).fetchall():
        problem = by_id.get((split, problem_id))
        if problem is not None and digest(render(problem)) != sha:
            raise RunError(
                f"{ledger.run_dir}: the prompt of problem {problem_id} is rendered differently now than when"
                " it was sampled: the model's chat template, or the version of transformers, has changed. Restore"
                " it, or begin another run"
            )
