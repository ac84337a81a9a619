"""The stages of a round over one run folder. Each does what is missing there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from star_rft.data import Prompter
from star_rft.errors import RunError
from star_rft.evaluation import evaluate
from star_rft.evaluation.evaluate import HeldOut
from star_rft.evaluation.trace_audit import doubts
from star_rft.files import write_batches, write_table
from star_rft.frontier.classes import classify
from star_rft.frontier.review import reviews
from star_rft.ledger import RANKINGS, Ledger
from star_rft.runs.folder import RunFolder, float32_of
from star_rft.runs.reports import write_report
from star_rft.runs.timing import Seconds
from star_rft.sampling import hints, temperature_search
from star_rft.sampling.plan import Unit, read_plan, write_plan
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Drawing
from star_rft.sampling.scheduler import Waves, affordable
from star_rft.sampling.temperature_search import Probe
from star_rft.sampling.writer import VerifierPool
from star_rft.scorers.registry import Scoring, scored
from star_rft.selection.rules import select
from star_rft.stages.metrics import Reporting, checked
from star_rft.stages.trackers import Tracking
from star_rft.training.dataset import Sampling, corpus, gold_examples, rankings
from star_rft.training.schedule import Fit, Places, RoundTraining
from star_rft.types import Example, Model, Problem, RoundReport, Split, digest

BATCH = 100_000  # rows of a selection in memory at once


@dataclass(slots=True)
class RunStages:
    """Made by `build.py`; `select_with` and `corpus_with` carry the settings of the config."""

    folder: RunFolder
    drawing: Drawing
    waves: Waves
    rounds: int
    base: Model
    prompts: Prompter
    sources: Sequence[Source]
    hint: Source | None
    prompts_a_round: int | None
    probe: Probe | None
    scoring: Scoring | None
    held_out: HeldOut
    reporting: Reporting
    holds_out_suspects: bool
    second: Callable[[], AbstractContextManager[VerifierPool | None]]
    select_with: Mapping[str, Any]
    corpus_with: Mapping[str, Any]
    training: RoundTraining
    warm_up: Fit | None
    warm_start_data: Sequence[Problem]
    tracking: Tracking
    write_card: Callable[[RoundReport], None]
    seconds: Seconds

    @property
    def ledger(self) -> Ledger:
        return self.drawing.ledger

    @property
    def train_problems(self) -> Sequence[Problem]:
        return self.drawing.problems["train"]

    def start(self) -> Model:
        """Return the model that the loop starts from: the base, or the base after its warm start."""
        if self.warm_up is None:
            return self.base
        if not self.folder.warm_start.exists():
            examples = gold_examples(self.warm_start_data, prompts=self.prompts)
            out = self.folder.warm_start
            self._fit(0, self.warm_up, "warm start", examples, self.base, out, float32_dir=float32_of(out))
        return self.folder.warm_start

    def mend(self) -> None:
        """Draw again what was drawn and is found damaged, before anything that is left to do reads the ledger."""
        lost = self.ledger.lost().keys()
        for round in self.folder.begun_rounds() if lost else []:
            before = self._policy_before(round)
            for units, policy, sources in [
                *((read_plan(path), before, self._sources_of(round, before)) for path in self.folder.plans(round)),
                (_planned(self.folder.hints(round)), before, [self.hint] if self.hint else []),
                (_planned(self.folder.probes(round)), before, self._tries() if self.probe else []),
                (_planned(self.folder.eval_plan(round)), self._model_of(round), self._held_out_sources()),
            ]:
                again = [unit for unit in units if unit.name in lost]
                if again:
                    self._draw("drawing damaged samples again", round, again, policy, sources)
            if lost & {_scores_name(round, "train")}:
                self.score(round, before)

    def _policy_before(self, round: int) -> Model:
        """Return the model that a round samples with, those before it being finished."""
        last = self.reporting.recorded(round - 1) if round > 0 else None
        return self.start() if last is None else self.policy_after(last)

    def plan(self, round: int, policy: Model) -> list[Unit]:
        """Return the next wave of the round's samples; none when the budget has nothing more to ask."""
        return self.waves.next(round, policy, self._prompts_of(round), self._sources_of(round, policy))

    def sample_and_verify(self, round: int, units: list[Unit], policy: Model) -> None:
        self._draw("sampling", round, units, policy, self._sources_of(round, policy))

    def rationalize(self, round: int, policy: Model) -> None:
        """Ask again, with a hint, for what no sample of the round has solved."""
        if self.hint is None:
            return
        path = self.folder.hints(round)
        if not path.exists():
            missed = set(hints.without_survivors(self.ledger.connect(), round=round))
            missed -= self.suspects(round - 1)  # a wrong answer is no hint
            problems = affordable(
                [problem for problem in self.train_problems if problem.id in missed],
                n=len(self.hint.attempts),
                max_tokens=self.hint.decodings[0].max_tokens,
                tokens_left=self.waves.tokens_left(round),
            )
            write_plan(path, [self.drawing.planned(round, "train", self.hint, policy, problems)])
        self._draw("with hints", round, read_plan(path), policy, [self.hint])

    def classify(self, round: int) -> None:
        """Say of each train problem what the samples so far make of it."""
        path = self.folder.frontier(round)
        if not path.exists():
            with self.seconds.timed(round, "select"):
                own = next((s.attempts for s in self.sources if s.model is None), range(0))
                found = reviews(self.folder.reviews)
                write_table(path, classify(self.ledger.connect(), through_round=round, own=own, reviews=found))

    def score(self, round: int, policy: Model, split: Split = "train") -> None:
        """Have the scorer, where the run has one, go over the traces of a round."""
        name = _scores_name(round, split)
        if self.scoring is None or name in self.ledger.units():
            return
        problems = {p.id: p for p in self.drawing.problems_of(split)}
        con = self.ledger.connect()
        query = "select count(*) from samples where split = ? and round = ?"
        ((count,),) = con.execute(query, [split, round]).fetchall()
        with self.seconds.timed(round, "score"):
            if self.scoring.frees_policy:
                self.drawing.engine.release()
            scorer = self.scoring.make(policy)
            with self.drawing.progress.stage("scoring", count, round=round) as advance:
                rows = scored(con, scorer, self.scoring, round=round, split=split, problems=problems, advance=advance)
                self.ledger.score(name, self.scoring.name, scorer.version, list(rows))
            scorer.close()

    def selection_settings(self, round: int) -> dict[str, Any]:
        """Return how the traces of a round are selected: by the config, and by what was found for this round."""
        settings = dict(self.select_with)
        if (found := temperature_search.chosen(self.folder.balance(round))) and found["threshold"] is not None:
            # After `correct`, so that what is wrong is dropped as wrong, and before what ranks, dedups or caps.
            settings["rules"] = [*settings["rules"][:1], {"threshold": found["threshold"]}, *settings["rules"][1:]]
        decides = self.scoring is not None and self.scoring.decides
        return settings | {"scorer_decides": decides, "holds_out_suspects": self.holds_out_suspects}

    def select(self, round: int) -> None:
        path, doubts_path = self.folder.selection(round), self.folder.doubts(round)
        if path.exists() and doubts_path.exists():
            return
        with self.seconds.timed(round, "select"):
            chosen = select(self.ledger.connect(), round=round, **self.selection_settings(round))
            write_batches(self.folder.rankings(round), chosen.rankings.to_arrow_reader(BATCH), RANKINGS)
            write_batches(path, chosen.traces.to_arrow_reader(BATCH))
            with self.second() as second:
                references = {problem.id: problem.reference for problem in self.train_problems}
                doubted = doubts(self.ledger.connect(), round=round, references=references, second=second)
            write_table(doubts_path, doubted.table)

    def train(self, round: int, policy: Model) -> Model:
        out, between = self.folder.checkpoint(round), self.folder.supervised(round)
        if not out.exists():
            self.drawing.engine.release()
            with self.seconds.timed(round, "train"):
                self.training.run(
                    round,
                    starts={"base": self.base, "warm_start": self.folder.warm_start, "last": policy},
                    places=Places(self.folder.path, out, between, self.folder.verifier(round), has_next=True),
                    examples=lambda: self._corpus(round),
                    rankings=lambda: rankings(self.ledger.connect(), **self.material(round)),
                    do=partial(self._fit, round),
                )
        self.folder.remove_float32(round)
        return out

    def evaluate(self, round: int, policy: Model) -> None:
        path = self.folder.eval(round)
        if path.exists() or not self._is_evaluated(round):
            return
        held_out = self.held_out
        with self.seconds.timed(round, "evaluate"):
            plan = self.folder.eval_plan(round)
            if not plan.exists():
                write_plan(plan, self._held_out_plan(round, policy))
            sources = self._held_out_sources()
            self._draw("evaluating", round, read_plan(plan), policy, sources)
            table = evaluate.per_problem(
                self.ledger.connect(),
                round=round,
                sampled_id=held_out.sampled.id,
                greedy_id=held_out.greedy.id if held_out.greedy else None,
                group_by=held_out.group_by,
            )
            write_table(path, table)

    def record(self, round: int, policy: Model) -> RoundReport:
        """Sum the round up and decide on it, write its metrics.json last: with it the round is finished."""
        with self.seconds.timed(round, "evaluate"):
            report = self.reporting.report(round, policy, suspects=self.suspects(round))
        self.write_card(report)  # a model's card tells what it came to, which its training did not know yet
        report = replace(report, seconds=self._spent(round))
        write_report(self.folder.metrics(round), report)
        self.tracking.round(report)
        return report

    def recorded(self, round: int) -> RoundReport | None:
        report = self.reporting.recorded(round)
        if report is None:
            return None
        policy = self._model_of(round)
        return checked(report, policy, self.drawing.fingerprint(policy))

    def ends(self, report: RoundReport) -> bool:
        return self.reporting.ends(report)

    def policy_after(self, report: RoundReport) -> Model:
        """Return the model that the next round goes on from."""
        return self._model_of(report.round if report.gate is None else report.gate["model_round"])

    def is_sampled(self, round: int, policy: Model) -> bool:
        """Whether nothing of the round is left to draw, with hints, or to score."""
        if not self.folder.plan(round).exists() or self.plan(round, policy):
            return False
        hints = self.folder.hints(round)
        if self.hint is not None and not hints.exists():
            return False
        wanted = {unit.name for unit in read_plan(hints)} if self.hint is not None else set()
        return wanted | ({_scores_name(round, "train")} if self.scoring else set()) <= self.ledger.units().keys()

    def require(self, round: int, is_there: bool, what: str, stage: str) -> None:
        if not is_there:
            path = self.folder.path
            raise RunError(f"{path}: round {round} has no complete {what} yet: star-rft {stage} {path} first")

    def suspects(self, round: int) -> frozenset[str]:
        """Return the problems that are held out of training in a round."""
        if not self.holds_out_suspects or not self.folder.frontier(round).exists():
            return frozenset()
        is_suspect = [("class", "=", "suspect_gold")]
        found = pq.read_table(self.folder.frontier(round), columns=["problem_id"], filters=is_suspect)
        return frozenset(found["problem_id"].to_pylist())

    def material(self, round: int) -> dict[str, Any]:
        """Return what turns the rows of a round into examples and rankings."""
        return {
            "round": round,
            "problems": {problem.id: problem for problem in self.train_problems},
            "prompts": self.prompts,
            "sampling": self.sampling(),
        }

    def sampling(self) -> Sampling:
        """Return how train samples were drawn, as far as training on them depends on it."""
        asked = [render for source in self.sources if source.model is None for render in source.renders]
        trained_on = self.prompts.render
        return Sampling(
            stops=self.prompts.stops(self.sources[0].decodings[0]),
            foreign=[self.drawing.fingerprint(source.model) for source in self.sources if source.model is not None],
            is_one_prompt=all(render(p) == trained_on(p) for render in asked for p in self.train_problems[:1]),
        )

    def _model_of(self, round: int) -> Model:
        return self.start() if round == 0 else self.folder.checkpoint(round)

    def _is_evaluated(self, round: int) -> bool:
        return round % self.held_out.every == 0 or round == self.rounds

    def _prompts_of(self, round: int) -> Sequence[Problem]:
        """Return the train problems that a round samples: all, or so many drawn anew each round."""
        problems = self.train_problems
        if self.prompts_a_round is None:
            return problems
        drawn = sorted(problems, key=lambda problem: digest("prompts", self.drawing.seed, round, problem.id))
        taken = {problem.id for problem in drawn[: self.prompts_a_round]}
        return [problem for problem in problems if problem.id in taken]

    def _sources_of(self, round: int, policy: Model) -> Sequence[Source]:
        """Return who samples a round, at the temperature that was found for it if one was looked for."""
        if self.probe is None:
            return self.sources
        path = self.folder.balance(round)
        if not path.exists():
            self._look_for_balance(round, policy)
        found = temperature_search.chosen(path)
        assert found is not None
        return [source.at(found["temperature"]) for source in self.sources]

    def _look_for_balance(self, round: int, policy: Model) -> None:
        probe = self.probe
        assert probe is not None
        tries = self._tries()
        plan = self.folder.probes(round)
        if not plan.exists():
            problems = self.drawing.problems["dev"][: probe.problems]
            write_plan(plan, [self.drawing.planned(round, "probe", s, policy, problems) for s in tries])
        self._draw("trying temperatures", round, read_plan(plan), policy, tries)
        self.score(round, policy, "probe")
        tried = temperature_search.scores(
            self.ledger.connect(),
            round=round,
            temperature_of={s.decodings[0].id: s.decodings[0].temperature for s in tries},
            thresholds=probe.thresholds,
            target=probe.target,
        )
        temperature_search.write(self.folder.balance(round), tried)

    def _tries(self) -> list[Source]:
        """Return the policy at each temperature that is tried."""
        probe = self.probe
        assert probe is not None
        own = next(source for source in self.sources if source.model is None)
        return [replace(own.at(t), attempts=range(probe.n)) for t in probe.temperatures]

    def _held_out_sources(self) -> list[Source]:
        wanted = [(self.held_out.sampled, self.held_out.n), (self.held_out.greedy, 1)]
        return [
            Source(
                self.prompts.tokenizer, range(n), (decoding,), (self.prompts.render,), encode=self.prompts.prompt_ids
            )
            for decoding, n in wanted
            if decoding is not None
        ]

    def _held_out_plan(self, round: int, policy: Model) -> list[pa.Table]:
        splits: tuple[Split, ...] = ("dev", "test")
        return [
            self.drawing.planned(round, split, source, policy, self.drawing.problems.get(split, ()))
            for split in splits
            for source in self._held_out_sources()
        ]

    def _draw(self, title: str, round: int, units: list[Unit], policy: Model, sources: Sequence[Source]) -> None:
        spent = self.drawing.draw(title, round, units, policy, sources)
        if any(unit.split in ("train", "probe") for unit in units):  # a held-out one is timed as evaluation
            self.seconds.add(round, spent)

    def _corpus(self, round: int) -> list[Example]:
        return corpus(
            self.ledger.connect(),
            anchor=self.warm_start_data,
            seed=self.drawing.seed,
            held_out=self.suspects(round),
            **self.material(round),
            **self.corpus_with,
        )

    def _fit(
        self, round: int, fit: Fit, title: str, items: Sequence[Any], model: Model, out: Path, **options: Any
    ) -> None:
        self.drawing.engine.release()
        with self.drawing.progress.training(title, round=round or None) as on_step:
            work = self.folder.work / f"{out.parent.name}-{out.name}"
            seed = self.drawing.seed + round
            around = {"on_step": self.tracking.training(title, round, on_step), "say": self.drawing.progress.say}
            # What its completions end with: an engine that reads the checkpoint's files alone stops there, too.
            ends = sorted(self.prompts.stops(self.sources[0].decodings[0]).ids)
            fit(items, model_path=model, out_dir=out, work_dir=work, seed=seed, end_ids=ends, **around, **options)

    def _spent(self, round: int) -> dict[str, float]:
        scores = ("score",) if self.scoring is not None else ()
        return self.seconds.finish(round, ("sample", "verify", *scores, "select", "train", "evaluate"))


def _planned(path: Path) -> list[Unit]:
    return read_plan(path) if path.exists() else []


def _scores_name(round: int, split: Split) -> str:
    return f"score-{split}-{round:03d}"
