"""From who is asked what to traces in the ledger: plans units, has them drawn and verified, and keeps the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from star_rft import rationalize
from star_rft.cluster import Cluster
from star_rft.errors import RunError
from star_rft.frontier.plan import PLAN, Asking, Ints, Unit, plan_table
from star_rft.keeping import VerifierPool
from star_rft.ledger import Ledger, batches
from star_rft.loaded import Engine
from star_rft.progress import Progress
from star_rft.rollout import Asked, Counted, draw, final_verdict, judged_text
from star_rft.runs.timing import Note, ignore
from star_rft.sources import Render, Source
from star_rft.types import Decoding, Model, Problem, Split, digest

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
                leaks=rationalize.leaks if source.is_hinted else None,
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
