"""Evaluation stage: held-out samples of a round's model, and the round's report and decision."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import pyarrow as pa

from star_rft.data import Prompter
from star_rft.evaluation import evaluate
from star_rft.evaluation.evaluate import HeldOutSampling
from star_rft.files import write_table
from star_rft.runs.reports import write_report
from star_rft.sampling.context import RunContext
from star_rft.sampling.plan import read_plan, write_plan
from star_rft.sampling.policy import Source
from star_rft.sampling.rollout import Rollout
from star_rft.stages.metrics import RoundMetrics
from star_rft.stages.trackers import Trackers
from star_rft.types import Model, RoundReport, Split

STAGES = ("sample", "verify", "score", "select", "train", "evaluate")


@dataclass(frozen=True, slots=True)
class EvaluationStage:
    """How a run evaluates: every `sampling.every` rounds, and after the last of `rounds`.

    `write_card` writes the card of the round's model.
    """

    rollout: Rollout
    prompter: Prompter
    sampling: HeldOutSampling
    rounds: int
    has_scores: bool
    metrics: RoundMetrics
    tracking: Trackers
    write_card: Callable[[RoundReport], None]

    @property
    def context(self) -> RunContext:
        """The run's folder, ledger and problems, which the rollout has as well."""
        return self.rollout.context

    def evaluate(self, round_index: int, policy: Model) -> None:
        """Draw the held-out samples of a round's model and count them by problem, in eval.parquet."""
        path, held_out = self.context.folder.eval(round_index), self.sampling
        is_wanted = round_index % held_out.every == 0 or round_index == self.rounds
        if path.exists() or not is_wanted:
            return
        with self.context.timing.timed(round_index, "evaluate"):
            plan = self.context.folder.eval_plan(round_index)
            if not plan.exists():
                write_plan(plan, self._plan(round_index, policy))
            self.rollout.draw("evaluating", round_index, read_plan(plan), policy, self._sources())
            table = evaluate.per_problem(
                self.context.ledger.connect(),
                round_index=round_index,
                sampled_id=held_out.sampled.id,
                greedy_id=held_out.greedy.id if held_out.greedy else None,
                group_by=held_out.group_by,
            )
            write_table(path, table)

    def draw_again(self, round_index: int, model: Model, lost: Collection[str]) -> None:
        """Draw the lost units again that belong to a round's evaluation."""
        plan = self.context.folder.eval_plan(round_index)
        self.rollout.draw_again(plan, round_index, model, self._sources(), lost)

    def record(self, round_index: int, policy: Model) -> RoundReport:
        """Write the round's report with the gate's decision; metrics.json comes last and finishes the round."""
        timing = self.context.timing
        with timing.timed(round_index, "evaluate"):
            report = self.metrics.report(round_index, policy)
        self.write_card(report)  # a model's card has its scores, so it is written after the evaluation
        stages = [stage for stage in STAGES if stage != "score" or self.has_scores]
        report = replace(report, seconds=timing.finish(round_index, stages))
        write_report(self.context.folder.metrics(round_index), report)
        self.tracking.round(report)
        return report

    def _sources(self) -> list[Source]:
        """Return how the held-out problems are sampled: at the config's temperature, and greedily if configured."""
        wanted = [(self.sampling.sampled, self.sampling.n), (self.sampling.greedy, 1)]
        tokenizer, render, encode = self.prompter.tokenizer, (self.prompter.render,), self.prompter.prompt_ids
        return [
            Source(tokenizer, range(n), (decoding,), render, encode=encode)
            for decoding, n in wanted
            if decoding is not None
        ]

    def _plan(self, round_index: int, policy: Model) -> list[pa.Table]:
        splits: tuple[Split, ...] = ("dev", "test")
        return [
            self.rollout.planned(round_index, split, source, policy, self.context.problems.get(split, ()))
            for split in splits
            for source in self._sources()
        ]
