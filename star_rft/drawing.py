"""From who is asked what to traces in the ledger: plans units, has them drawn and verified, and keeps the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from star_rft import rationalize
from star_rft.frontier.plan import PLAN, Asking, Ints, Unit, plan_table
from star_rft.keeping import VerifierPool
from star_rft.ledger import Ledger, batches
from star_rft.progress import Progress
from star_rft.rollout import Asked, Counted, draw, final_verdict, judged_text
from star_rft.sources import Source
from star_rft.timeline import Note, ignore
from star_rft.types import Model, Problem, Sampler, Split


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
        longest, sampler = source.longest_prompt(asked), self.engine.sampler(source.model or policy)
        asking = Asking(
            round,
            split,
            source.name,
            [decoding.id for decoding in source.decodings],
            [sampler.batch_size_for(longest, decoding) for decoding in source.decodings],
            first=source.attempts.start,
        )
        ids = [problem.id for problem in problems]
        sizes = {"run_seed": self.seed, "unit_size": self.unit_size, "wave": wave}
        return plan_table(ids, asking, counts=wanted, begins=begins, **sizes)

    def draw(
        self, title: str, round: int, units: Sequence[Unit], policy: Model, sources: Sequence[Source]
    ) -> dict[str, float]:
        """Draw what is missing; return the seconds inside the sampler and those that verification added."""
        counted = Counted(self.pool)
        decodings = {decoding.id: decoding for source in sources for decoding in source.decodings}
        by_name = {source.name: source for source in sources}

        def ask(unit: Unit) -> Asked:
            source = by_name[unit.source]
            model = source.model or policy
            return Asked(
                sampler=lambda: self.engine.sampler(model),
                model=self.fingerprint(model),
                decoding=decodings[unit.decode_id],
                render=source.render,
                leaks=rationalize.leaks if source.is_hinted else None,
            )

        committed = self.ledger.units()
        done = sum(len(unit) for unit in units if unit.name in committed)
        with self.progress.sampling(title, sum(map(len, units)), done=done, round=round) as watched:
            seconds = draw(
                units,
                round=round,
                ask=ask,
                problems={split: {p.id: p for p in self.problems_of(split)} for split in {u.split for u in units}},
                pool=counted,
                ledger=self.ledger,
                watched=watched,
                stage=title,
                note=self.note,
            )
        self.ledger.compact()
        counted.tally.warn()
        return seconds

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
