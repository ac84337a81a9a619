"""The stages of a round over one run folder. Each does what is missing there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from star_rft import balance, evaluate, rationalize, record
from star_rft.balance import Probe
from star_rft.data import Prompter
from star_rft.files import RunError, write_table
from star_rft.folder import RunFolder
from star_rft.frontier import Unit, fixed_k, read_plan, write_plan
from star_rft.ledger import RANKINGS, Ledger, batches
from star_rft.progress import Progress
from star_rft.rollout import Asked, Counted, VerifierPool, draw, final_verdict, judged_text
from star_rft.scoring import Scoring, scored
from star_rft.select.rules import select
from star_rft.sources import Model, Source
from star_rft.training.corpus import corpus, gold_examples, mixture, rankings
from star_rft.training.round import Fit, Places, RoundTraining
from star_rft.types import Decoding, Example, Problem, RoundReport, Sampler, Scores, Split, digest


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
    """Made by `build.py`; `select_with` and `corpus_with` carry the settings of the config."""

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
    sources: Sequence[Source]
    hint: Source | None
    prompts_a_round: int | None
    probe: Probe | None
    scoring: Scoring | None
    unit_size: int
    held_out: HeldOut
    select_with: Mapping[str, Any]
    corpus_with: Mapping[str, Any]
    training: RoundTraining
    warm_up: Fit | None
    warm_start_data: Sequence[Problem]
    _seconds: dict[int, dict[str, float]] = field(default_factory=dict)
    _round_began: float = field(default_factory=perf_counter)

    def start(self) -> Model:
        """Return the model that the loop starts from: the base, or the base after its warm start."""
        if self.warm_up is None:
            return self.base
        if not self.folder.warm_start.exists():
            examples = gold_examples(self.warm_start_data, prompts=self.prompts)
            self._fit(0, self.warm_up, "warm start", examples, self.base, self.folder.warm_start)
        return self.folder.warm_start

    def plan(self, round: int, policy: Model) -> list[Unit]:
        path = self.folder.plan(round)
        if not path.exists():
            train = self._prompts_of(round)
            sources = self._sources_of(round, policy)
            write_plan(path, [u for s in sources for u in self._units(round, "train", s, policy, train)])
        return read_plan(path)

    def sample_and_verify(self, round: int, units: list[Unit], policy: Model) -> None:
        self._draw(f"round {round}: sampling", round, units, policy, self._sources_of(round, policy))

    def rationalize(self, round: int, policy: Model) -> None:
        """Ask again, with a hint, for what no sample of the round has solved."""
        if self.hint is None:
            return
        path = self.folder.hints(round)
        if not path.exists():
            missed = set(rationalize.without_survivors(self.ledger.connect(), round=round))
            problems = [problem for problem in self.problems["train"] if problem.id in missed]
            write_plan(path, self._units(round, "train", self.hint, policy, problems))
        self._draw(f"round {round}: with hints", round, read_plan(path), policy, [self.hint])

    def score(self, round: int, policy: Model, split: Split = "train") -> None:
        """Have the scorer, where the run has one, go over the traces of a round."""
        name = f"score-{split}-{round:03d}"
        if self.scoring is None or name in self.ledger.units():
            return
        problems = {p.id: p for p in self._problems_of(split)}
        con = self.ledger.connect()
        query = "select count(*) from samples where split = ? and round = ?"
        ((count,),) = con.execute(query, [split, round]).fetchall()
        with self._timed(round, "score"):
            if self.scoring.frees_policy:
                self.engine.release()
            scorer = self.scoring.make(policy)
            with self.progress.stage(f"round {round}: scoring", count) as advance:
                rows = scored(con, scorer, self.scoring, round=round, split=split, problems=problems, advance=advance)
                self.ledger.score(name, self.scoring.name, scorer.version, list(rows))
            scorer.close()

    def select(self, round: int) -> None:
        path = self.folder.selection(round)
        if path.exists():
            return
        with self._timed(round, "select"):
            settings = dict(self.select_with)
            if (found := balance.chosen(self.folder.balance(round))) and found["threshold"] is not None:
                settings["rules"] = [*settings["rules"][:1], {"threshold": found["threshold"]}, *settings["rules"][1:]]
            decides = self.scoring is not None and self.scoring.decides
            chosen = select(self.ledger.connect(), round=round, scorer_decides=decides, **settings)
            write_table(self.folder.rankings(round), chosen.rankings.to_arrow_table().cast(RANKINGS))
            write_table(path, chosen.traces.to_arrow_table())

    def train(self, round: int, policy: Model) -> Model:
        out = self.folder.checkpoint(round)
        if out.exists():
            return out
        self.engine.release()
        with self._timed(round, "train"):
            self.training.run(
                round,
                starts={"base": self.base, "warm_start": self.folder.warm_start, "last": policy},
                places=Places(self.folder.path, out, self.folder.supervised(round), self.folder.verifier(round)),
                examples=lambda: self._corpus(round),
                rankings=lambda: rankings(self.ledger.connect(), **self._material(round)),
                do=partial(self._fit, round),
            )
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
            sources = self._held_out_sources()
            self._draw(f"round {round}: evaluating", round, read_plan(plan), policy, sources)
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
            counts = {"problems": len(train), "anchor": len(self.warm_start_data)}
            gold, anchor = mixture(figures["survivors"], **counts, **self.corpus_with)
            figures |= {"gold": gold, "anchor": anchor, "balance": balance.chosen(self.folder.balance(round))}
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
        report, policy = record.read(path), self.start() if round == 0 else self.folder.checkpoint(round)
        if (found := self.fingerprint(policy)) != report.model:
            raise RunError(
                f"{policy}: is not the model that round {round} recorded ({found}, not {report.model}): its weights"
                " were changed; restore them or begin a new run"
            )
        return report, policy

    def is_sampled(self, round: int) -> bool:
        path = self.folder.plan(round)
        return path.exists() and all(unit.name in self.ledger.units() for unit in read_plan(path))

    def require(self, round: int, is_there: bool, what: str, stage: str) -> None:
        if not is_there:
            path = self.folder.path
            raise RunError(f"{path}: round {round} has no complete {what} yet: star-rft {stage} {path} first")

    def verify_again(self) -> dict[str, int]:
        """Judge every sample of the ledger with the verifier as it is now; newer verdicts supersede older ones.

        Returns how many verdicts changed, by "from -> to".
        """
        by_id = {p.id: p for problems in self.problems.values() for p in problems}
        changed: dict[str, int] = {}
        units = self.ledger.units()
        con = self.ledger.connect()
        query = "select sample_id, problem_id, text, finish_reason, status from traces order by sample_id"
        total = sum(line["rows"] for line in units.values() if "samples" in line["parts"])
        counted = Counted(self.pool)
        with self.progress.stage("verifying again", total) as advance:
            for index, rows in enumerate(batches(con, query)):
                pairs = (
                    (judged_text(row["text"], row["finish_reason"]), by_id[row["problem_id"]].reference) for row in rows
                )
                verdicts = [
                    final_verdict(verdict, row["finish_reason"])
                    for row, verdict in zip(rows, counted.verify_iter(pairs), strict=True)
                ]
                for row, verdict in zip(rows, verdicts, strict=True):
                    if row["status"] != verdict.status:
                        key = f"{row['status']} -> {verdict.status}"
                        changed[key] = changed.get(key, 0) + 1
                newer = [(r["sample_id"], r["text"], v) for r, v in zip(rows, verdicts, strict=True)]
                self.ledger.supersede(f"verify-{len(units):05d}-{index:05d}", newer)
                advance(len(rows), 0)
        counted.tally.warn()
        return changed

    def _is_evaluated(self, round: int) -> bool:
        return round % self.held_out.every == 0 or round == self.rounds

    def _units(
        self, round: int, split: Split, source: Source, policy: Model, problems: Sequence[Problem]
    ) -> list[Unit]:
        if not problems:
            return []
        longest, sampler = source.longest_prompt(problems), self.engine.sampler(source.model or policy)
        return [
            unit
            for decoding, attempts in source.by_decoding().items()
            for unit in fixed_k(
                [problem.id for problem in problems],
                attempts=attempts,
                round=round,
                split=split,
                decoding=decoding,
                run_seed=self.seed,
                unit_size=self.unit_size,
                batch_size=sampler.batch_size_for(longest, decoding),
                source=source.name,
            )
        ]

    def _problems_of(self, split: Split) -> Sequence[Problem]:
        return self.problems.get("dev" if split == "probe" else split, ())

    def _prompts_of(self, round: int) -> Sequence[Problem]:
        """Return the train problems that a round samples: all, or so many drawn anew each round."""
        problems = self.problems["train"]
        if self.prompts_a_round is None:
            return problems
        drawn = sorted(problems, key=lambda problem: digest("prompts", self.seed, round, problem.id))
        taken = {problem.id for problem in drawn[: self.prompts_a_round]}
        return [problem for problem in problems if problem.id in taken]

    def _sources_of(self, round: int, policy: Model) -> Sequence[Source]:
        """Return who samples a round, at the temperature that was found for it if one was looked for."""
        if self.probe is None:
            return self.sources
        path = self.folder.balance(round)
        if not path.exists():
            self._look_for_balance(round, policy)
        found = balance.chosen(path)
        assert found is not None
        return [source.at(found["temperature"]) for source in self.sources]

    def _look_for_balance(self, round: int, policy: Model) -> None:
        probe = self.probe
        assert probe is not None
        tries = [replace(self.sources[0].at(t), attempts=range(probe.n)) for t in probe.temperatures]
        plan = self.folder.probes(round)
        if not plan.exists():
            problems = self.problems["dev"][: probe.problems]
            write_plan(plan, [u for s in tries for u in self._units(round, "probe", s, policy, problems)])
        self._draw(f"round {round}: trying temperatures", round, read_plan(plan), policy, tries)
        self.score(round, policy, "probe")
        tried = balance.scores(
            self.ledger.connect(),
            round=round,
            temperature_of={s.decodings[0].id: s.decodings[0].temperature for s in tries},
            thresholds=probe.thresholds,
            target=probe.target,
        )
        balance.write(self.folder.balance(round), tried)

    def _held_out_sources(self) -> list[Source]:
        wanted = [(self.held_out.sampled, self.held_out.n), (self.held_out.greedy, 1)]
        return [
            Source(self.prompts.tokenizer, range(n), (decoding,), (self.prompts.render,))
            for decoding, n in wanted
            if decoding is not None
        ]

    def _held_out_units(self, round: int, policy: Model) -> list[Unit]:
        splits: tuple[Split, ...] = ("dev", "test")
        return [
            unit
            for split in splits
            for source in self._held_out_sources()
            for unit in self._units(round, split, source, policy, self.problems.get(split, ()))
        ]

    def _draw(self, title: str, round: int, units: list[Unit], policy: Model, sources: Sequence[Source]) -> None:
        """Draw what is missing; seconds inside the sampler and those that verification added count for training."""
        before = self._drawing_seconds()
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

        with self.progress.stage(title, sum(len(unit.requests) for unit in units)) as advance:
            draw(
                units,
                round=round,
                ask=ask,
                problems={split: {p.id: p for p in self._problems_of(split)} for split in {u.split for u in units}},
                pool=counted,
                ledger=self.ledger,
                advance=advance,
            )
        counted.tally.warn()
        if any(unit.split in ("train", "probe") for unit in units):
            spent, after = self._seconds.setdefault(round, {}), self._drawing_seconds()
            for stage in after:
                spent[stage] = spent.get(stage, 0.0) + after[stage] - before[stage]

    def _drawing_seconds(self) -> dict[str, float]:
        lines = [line.get("seconds", {}) for line in self.ledger.units().values()]
        return {stage: sum(line.get(stage, 0.0) for line in lines) for stage in ("sample", "verify")}

    def _material(self, round: int) -> dict[str, Any]:
        return {
            "round": round,
            "problems": {problem.id: problem for problem in self.problems["train"]},
            "prompts": self.prompts,
            "foreign": [self.fingerprint(source.model) for source in self.sources if source.model is not None],
        }

    def _corpus(self, round: int) -> list[Example]:
        return corpus(
            self.ledger.connect(),
            anchor=self.warm_start_data,
            seed=self.seed,
            **self._material(round),
            **self.corpus_with,
        )

    def _fit(
        self, round: int, fit: Fit, title: str, items: Sequence[Any], model: Model, out: Path, **options: Any
    ) -> None:
        self.engine.release()
        with self.progress.training(f"round {round}: {title}" if round else title) as on_step:
            work = self.folder.work / f"{out.parent.name}-{out.name}"
            seed = self.seed + round
            fit(items, model_path=model, out_dir=out, work_dir=work, seed=seed, on_step=on_step, **options)

    def _scores(self, round: int, split: Split) -> Scores | None:
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
        scores = ("score",) if self.scoring is not None else ()
        stages = ("sample", "verify", *scores, "select", "train", "evaluate")
        spent = {stage: self._seconds.get(round, {}).get(stage, 0.0) for stage in stages}
        now = perf_counter()
        spent["other"] = now - self._round_began - sum(spent.values())
        self._round_began = now
        return {stage: float(f"{seconds:.3f}") for stage, seconds in spent.items()}


def do_stage(stages: RunStages, stage: str) -> str:
    """Do one stage of the first unfinished round and say what was done.

    "train" needs the selection and "select" the samples of that round; what is missing is named.
    """
    finished = stages.folder.finished_rounds()
    round = finished[-1] + 1 if finished else 0
    policy = stages.start() if round <= 1 else stages.folder.checkpoint(round - 1)
    if round == 0 and stage != "eval":
        raise RunError(f"{stages.folder.path}: the model it starts from is not evaluated yet: star-rft eval first")
    if stage == "sample":
        units = stages.plan(round, policy)
        stages.sample_and_verify(round, units, policy)
        stages.rationalize(round, policy)
        stages.score(round, policy)
        return f"round {round}: {sum(len(unit.requests) for unit in units):,} samples are in the ledger"
    if stage == "select":
        stages.require(round, stages.is_sampled(round), "samples", "sample")
        stages.select(round)
        return f"round {round}: {stages.folder.selection(round)}"
    if stage == "train":
        stages.require(round, stages.folder.selection(round).exists(), "selection", "select")
        return f"round {round}: {stages.train(round, policy)}"
    if round > 0:
        policy = stages.folder.checkpoint(round)
        stages.require(round, stages.folder.checkpoint(round).exists(), "checkpoint", "train")
    stages.evaluate(round, policy)
    return f"round {round}: pass@k {stages.record(round, policy).pass_at_k}"
