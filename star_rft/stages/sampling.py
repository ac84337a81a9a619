"""Sampling stage: a round's samples, wave by wave, then again with hints, and their scores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from star_rft.sampling import temperature_search
from star_rft.sampling.context import RunContext
from star_rft.sampling.hints import unsolved_problems
from star_rft.sampling.plan import Unit, read_plan, write_plan
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Rollout
from star_rft.sampling.scheduler import Scheduler, affordable
from star_rft.sampling.temperature_search import TemperatureSearch
from star_rft.scorers.registry import ScorerSettings, scored
from star_rft.types import Model, Problem, Split, digest


@dataclass(frozen=True, slots=True)
class SamplingStage:
    """How a round samples its train problems: `sources` draw the samples, and `scheduler` their number by problem.

    `hint` is the source that samples unsolved problems again. `problems_per_round` is how many problems a
    round draws; all unless given. `search` looks for each round's temperature, and `scoring` scores what was sampled.
    """

    rollout: Rollout
    scheduler: Scheduler
    sources: Sequence[Source]
    hint: Source | None
    problems_per_round: int | None
    search: TemperatureSearch | None
    scoring: ScorerSettings | None

    @property
    def context(self) -> RunContext:
        """The run's folder, ledger and problems, which the rollout has as well."""
        return self.rollout.context

    def plan(self, round_index: int, policy: Model) -> list[Unit]:
        """Return the next wave of the round's samples; no units once the budget is used up."""
        problems = self._problems_of(round_index)
        return self.scheduler.next(round_index, policy, problems, self._sources_of(round_index, policy))

    def sample(self, round_index: int, units: list[Unit], policy: Model) -> None:
        """Draw, verify and commit a wave."""
        self.rollout.draw("sampling", round_index, units, policy, self._sources_of(round_index, policy))

    def sample_with_hints(self, round_index: int, policy: Model) -> None:
        """Sample again, with a hint, the problems that no sample of the round has solved."""
        if self.hint is None:
            return
        path = self.context.folder.hints(round_index)
        if not path.exists():
            missed = set(unsolved_problems(self.context.ledger.connect(), round_index=round_index))
            missed -= self.context.quarantined(round_index - 1)  # a wrong answer is no hint
            problems = affordable(
                [problem for problem in self.context.train_problems if problem.id in missed],
                n=len(self.hint.sample_indices),
                max_tokens=self.hint.decodings[0].max_tokens,
                tokens_left=self.scheduler.tokens_left(round_index),
            )
            write_plan(path, [self.rollout.planned(round_index, "train", self.hint, policy, problems)])
        self.rollout.draw("with hints", round_index, read_plan(path), policy, [self.hint])

    def score(self, round_index: int, policy: Model, split: Split = "train") -> None:
        """Score the traces of a round, where the run has a scorer."""
        context, name = self.context, scores_name(round_index, split)
        if self.scoring is None or name in context.ledger.units():
            return
        problems = {p.id: p for p in context.problems_of(split)}
        con = context.ledger.connect()
        query = "select count(*) from samples where split = ? and round = ?"
        ((count,),) = con.execute(query, [split, round_index]).fetchall()
        with context.timing.timed(round_index, "score"):
            if self.scoring.frees_policy:
                context.engine.release()
            scorer = self.scoring.make(policy)
            with context.progress.stage("scoring", count, round_index=round_index) as advance:
                rows = scored(
                    con, scorer, self.scoring, round_index=round_index, split=split, problems=problems, advance=advance
                )
                context.ledger.score(name, self.scoring.name, scorer.version, list(rows))
            scorer.close()

    def is_sampled(self, round_index: int, policy: Model) -> bool:
        """Return whether every sample of the round, hinted ones too, is drawn and scored."""
        folder, wanted = self.context.folder, set[str]()
        if not folder.plan(round_index).exists() or self.plan(round_index, policy):
            return False
        if self.hint is not None:
            if not folder.hints(round_index).exists():
                return False
            wanted = {unit.name for unit in read_plan(folder.hints(round_index))}
        if self.scoring is not None:
            wanted.add(scores_name(round_index, "train"))
        return wanted <= self.context.ledger.units().keys()

    def draw_again(self, round_index: int, policy: Model, lost: Collection[str]) -> None:
        """Draw and score the lost units of a round again."""
        folder = self.context.folder
        planned = [(path, self._sources_of(round_index, policy)) for path in folder.plans(round_index)]
        planned += [(folder.hints(round_index), [self.hint])] if self.hint is not None else []
        planned += [(folder.probes(round_index), self._tries(self.search))] if self.search is not None else []
        for path, sources in planned:
            self.rollout.draw_again(path, round_index, policy, sources, lost)
        if scores_name(round_index, "train") in lost:
            self.score(round_index, policy)

    def _problems_of(self, round_index: int) -> Sequence[Problem]:
        """Return the train problems that a round samples: all, or a new random selection each round."""
        problems, seed = self.context.train_problems, self.context.seed
        if self.problems_per_round is None:
            return problems
        drawn = sorted(problems, key=lambda problem: digest("prompts", seed, round_index, problem.id))
        taken = {problem.id for problem in drawn[: self.problems_per_round]}
        return [problem for problem in problems if problem.id in taken]

    def _sources_of(self, round_index: int, policy: Model) -> Sequence[Source]:
        """Return the sources of a round's samples, at the temperature that its search found, if there was one."""
        if self.search is None:
            return self.sources
        path = self.context.folder.temperature_search(round_index)
        if not path.exists():
            self._search(self.search, round_index, policy)
        found = temperature_search.chosen(path)
        assert found is not None
        return [source.at(found["temperature"]) for source in self.sources]

    def _search(self, search: TemperatureSearch, round_index: int, policy: Model) -> None:
        """Sample a few held-out problems at every temperature, and record which does best."""
        tries, plan = self._tries(search), self.context.folder.probes(round_index)
        if not plan.exists():
            problems = self.context.problems["dev"][: search.problems]
            write_plan(plan, [self.rollout.planned(round_index, "probe", s, policy, problems) for s in tries])
        self.rollout.draw("trying temperatures", round_index, read_plan(plan), policy, tries)
        self.score(round_index, policy, "probe")
        tried = temperature_search.scores(
            self.context.ledger.connect(),
            round_index=round_index,
            temperature_of={s.decodings[0].id: s.decodings[0].temperature for s in tries},
            thresholds=search.thresholds,
            target=search.target,
        )
        temperature_search.write(self.context.folder.temperature_search(round_index), tried)

    def _tries(self, search: TemperatureSearch) -> list[Source]:
        """Return the policy as a source at each temperature of the search."""
        own = next(source for source in self.sources if source.model is None)
        return [replace(own.at(t), sample_indices=range(search.n)) for t in search.temperatures]


def scores_name(round_index: int, split: Split) -> str:
    """Return the name of the unit that holds the scores of a round."""
    return f"score-{split}-{round_index:03d}"
