"""The stages of a round over one run folder. Each does what is missing there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow.parquet as pq

from star_rft import evaluate, record
from star_rft.data import Prompter
from star_rft.files import RunError, write_table
from star_rft.folder import RunFolder
from star_rft.frontier import Unit, fixed_k, read_plan, write_plan
from star_rft.ledger import Ledger, batches
from star_rft.progress import Progress
from star_rft.rollout import VerifierPool, draw
from star_rft.select.rules import select
from star_rft.training.corpus import Corpus, corpus, gold_examples
from star_rft.types import Decoding, Problem, RoundReport, Sampler, Split

Model = Path | str


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
class HeldOut:
    """How the held-out sets are sampled; `greedy` is None where no greedy completion is wanted."""

    ks: Sequence[int]
    n: int
    sampled: Decoding
    greedy: Decoding | None
    every: int
    group_by: str | None


@dataclass(slots=True)
class RunStages:
    """Made by `build.py`; `fit`, `select_with` and `corpus_with` carry the settings of the config."""

    folder: RunFolder
    ledger: Ledger
    problems: Mapping[Split, Sequence[Problem]]
    seed: int
    rounds: int
    base: Model
    prompts: Prompter
    engine: Engine
    pool: VerifierPool
    progress: Progress
    fingerprint: Callable[[Model], str]
    decoding: Decoding
    n: int
    unit_size: int
    held_out: HeldOut
    select_with: Mapping[str, Any]
    corpus_with: Mapping[str, Any]
    train_from: str
    fit: Callable[..., object]
    warm_up: Callable[..., object] | None
    warm_start_data: Sequence[Problem]
    _seconds: dict[int, dict[str, float]] = field(default_factory=dict)
    _round_began: float = field(default_factory=perf_counter)

    def start(self) -> Model:
        """Return the model that the loop starts from: the base, or the base after its warm start."""
        if self.warm_up is None:
            return self.base
        if not self.folder.warm_start.exists():
            examples = gold_examples(self.warm_start_data, prompts=self.prompts)
            self._fit(self.warm_up, "warm start", examples, self.base, self.folder.warm_start, seed=self.seed)
        return self.folder.warm_start

    def plan(self, round: int, policy: Model) -> list[Unit]:
        path = self.folder.plan(round)
        if not path.exists():
            write_plan(path, self._units(round, "train", self.decoding, self.n, policy))
        return read_plan(path)

    def sample_and_verify(self, round: int, units: list[Unit], policy: Model) -> None:
        with self._timed(round, "sample"):
            verify = self._draw(f"round {round}: sampling", round, units, policy, {self.decoding.id: self.decoding})
        self._seconds[round]["verify"] = verify
        self._seconds[round]["sample"] -= verify

    def select(self, round: int) -> None:
        path = self.folder.selection(round)
        if path.exists():
            return
        with self._timed(round, "select"):
            chosen = select(self.ledger.connect(), round=round, **self.select_with)
            write_table(path, chosen.to_arrow_table())

    def train(self, round: int, policy: Model) -> Model:
        out = self.folder.checkpoint(round)
        if out.exists():
            return out
        self.engine.release()
        with self._timed(round, "train"):
            made = self._corpus(round)
            if not made.examples:
                raise RunError(
                    f"round {round}: nothing to train on: no sample was verified as correct. Look at some with"
                    f" `star-rft sql {self.folder.path} \"select reason, answer, text from traces limit 20\"`;"
                    " then raise sample.n, begin with a warm_start, or use easier problems"
                )
            start = {"base": self.base, "warm_start": self.folder.warm_start, "last": policy}[self.train_from]
            self._fit(self.fit, f"round {round}: training", made.examples, start, out, seed=self.seed + round)
        return out

    def evaluate(self, round: int, policy: Model) -> None:
        path = self.folder.eval(round)
        if path.exists() or not self._is_evaluated(round):
            return
        held_out = self.held_out
        with self._timed(round, "evaluate"):
            plan = self.folder.eval_plan(round)
            if not plan.exists():
                write_plan(plan, self._held_out_units(round, policy))
            decodings = {d.id: d for d in (held_out.sampled, held_out.greedy) if d is not None}
            self._draw(f"round {round}: evaluating", round, read_plan(plan), policy, decodings)
            table = evaluate.per_problem(
                self.ledger.connect(),
                round=round,
                sampled_id=held_out.sampled.id,
                greedy_id=held_out.greedy.id if held_out.greedy else None,
                group_by=held_out.group_by,
            )
            write_table(path, table)

    def record(self, round: int, policy: Model) -> RoundReport:
        """Sum the round up, write its metrics.json last: with it the round is finished."""
        train = self.problems["train"]
        scored = {split: self._scores(round, split) for split in ("dev", "test") if self.problems.get(split)}
        figures: dict[str, Any] = {}
        if round > 0:
            con = self.ledger.connect()
            figures = record.train_figures(con, round=round, group_by=self.held_out.group_by)
            figures |= record.selection_figures(con, round=round, problems=len(train))
            made = self._corpus(round)
            figures |= {"gold": made.gold, "anchor": made.anchor}
        report = RoundReport(
            round=round,
            model=self.fingerprint(policy),
            problems=len(train),
            held_out=scored.get("dev", scored.get("test")),
            test=scored.get("test"),
            seconds=self._spent(round),
            **figures,
        )
        record.write(self.folder.metrics(round), report)
        return report

    def recorded(self, round: int) -> tuple[RoundReport, Model] | None:
        path = self.folder.metrics(round)
        if not path.exists():
            return None
        return record.read(path), self.start() if round == 0 else self.folder.checkpoint(round)

    def verify_again(self) -> dict[str, int]:
        """Judge every sample of the ledger with the verifier as it is now; newer verdicts supersede older ones.

        Returns how many verdicts changed, by "from -> to".
        """
        by_id = {p.id: p for problems in self.problems.values() for p in problems}
        changed: dict[str, int] = {}
        total = sum(1 for _ in self.ledger.units())
        con = self.ledger.connect()
        query = "select sample_id, problem_id, text, finish_reason, status from traces order by sample_id"
        with self.progress.stage("verifying again", total) as advance:
            for index, rows in enumerate(batches(con, query)):
                verdicts = judge_rows(rows, problems=by_id, pool=self.pool)
                for row, verdict in zip(rows, verdicts, strict=True):
                    if row["status"] != verdict.status:
                        key = f"{row['status']} -> {verdict.status}"
                        changed[key] = changed.get(key, 0) + 1
                pairs = [(r["sample_id"], r["text"], v) for r, v in zip(rows, verdicts, strict=True)]
                self.ledger.supersede(f"verify-{total:05d}-{index:05d}", pairs)
                advance(len(rows), 0)
        return changed

    def _is_evaluated(self, round: int) -> bool:
        return round % self.held_out.every == 0 or round == self.rounds

    def _units(self, round: int, split: Split, decoding: Decoding, n: int, policy: Model) -> list[Unit]:
        problems = self.problems[split]
        sampler = self.engine.sampler(policy)
        return fixed_k(
            [problem.id for problem in problems],
            n=n,
            round=round,
            split=split,
            decoding=decoding,
            run_seed=self.seed,
            unit_size=self.unit_size,
            batch_size=sampler.batch_size_for([self.prompts.render(p) for p in problems], decoding=decoding),
        )

    def _held_out_units(self, round: int, policy: Model) -> list[Unit]:
        units: list[Unit] = []
        splits: tuple[Split, ...] = ("dev", "test")
        for split in (split for split in splits if self.problems.get(split)):
            units += self._units(round, split, self.held_out.sampled, self.held_out.n, policy)
            if self.held_out.greedy is not None:
                units += self._units(round, split, self.held_out.greedy, 1, policy)
        return units

    def _draw(
        self, title: str, round: int, units: list[Unit], policy: Model, decodings: Mapping[str, Decoding]
    ) -> float:
        """Draw what is missing; return the seconds that verification added to the sampler's."""
        by_split = {split: {p.id: p for p in problems} for split, problems in self.problems.items()}
        before = self._verify_seconds()
        with self.progress.stage(title, sum(len(unit.requests) for unit in units)) as advance:
            for unit in units:
                missing = unit.name not in self.ledger.units()
                draw(
                    [unit],
                    round=round,
                    sampler=self.engine.sampler(policy) if missing else None,
                    model=self.fingerprint(policy),
                    decodings=decodings,
                    problems=by_split[unit.split],
                    render=self.prompts.render,
                    pool=self.pool,
                    ledger=self.ledger,
                    advance=advance,
                )
        return self._verify_seconds() - before

    def _verify_seconds(self) -> float:
        return sum(line.get("seconds", {}).get("verify", 0.0) for line in self.ledger.units().values())

    def _corpus(self, round: int) -> Corpus:
        return corpus(
            self.ledger.connect(),
            round=round,
            problems={problem.id: problem for problem in self.problems["train"]},
            prompts=self.prompts,
            anchor=self.warm_start_data,
            seed=self.seed,
            **self.corpus_with,
        )

    def _fit(
        self, fit: Callable[..., object], title: str, examples: Sequence[Any], model: Model, out: Path, *, seed: int
    ) -> None:
        self.engine.release()
        with self.progress.training(title) as on_step:
            fit(examples, model_path=model, out_dir=out, work_dir=self.folder.work, seed=seed, on_step=on_step)

    def _scores(self, round: int, split: Split) -> evaluate.Scores | None:
        path = self.folder.eval(round)
        if not path.exists():
            return None
        earlier = [r for r in range(round) if self.folder.eval(r).exists()]
        rows = [evaluate.read(self.folder.eval(r), split) for r in (*earlier[:1], *earlier[-1:])]
        return evaluate.scores(
            evaluate.read(path, split),
            split=split,
            ks=self.held_out.ks,
            base=rows[0] if rows else None,
            last=rows[-1] if rows else None,
        )

    @contextmanager
    def _timed(self, round: int, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            spent = self._seconds.setdefault(round, {})
            spent[stage] = spent.get(stage, 0.0) + perf_counter() - started

    def _spent(self, round: int) -> dict[str, float]:
        """Seconds by stage in this process; what an earlier, interrupted process spent is not in it."""
        stages = ("sample", "verify", "select", "train", "evaluate")
        spent = {stage: self._seconds.get(round, {}).get(stage, 0.0) for stage in stages}
        now = perf_counter()
        spent["other"] = now - self._round_began - sum(spent.values())
        self._round_began = now
        return {stage: round_to(seconds) for stage, seconds in spent.items()}
