"""The outer loop: sample, verify, select, train, evaluate, again. Read this first.

Every stage is idempotent: it does what is missing in the run folder and nothing else. So the same call starts
a run, continues it after whatever stopped it, and extends it by more rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from star_rft.errors import RunError
from star_rft.sampling.context import RunContext
from star_rft.stages.evaluation import EvaluationStage
from star_rft.stages.metrics import checked
from star_rft.stages.sampling import SamplingStage
from star_rft.stages.selection import SelectionStage
from star_rft.stages.training import TrainingStage
from star_rft.types import Model, RoundReport


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a round; `build` makes them from a config. A model is a checkpoint folder or a hub name."""

    context: RunContext
    sampling: SamplingStage
    selection: SelectionStage
    training: TrainingStage
    evaluation: EvaluationStage

    def recorded(self, round_index: int) -> RoundReport | None:
        """Return the report of a finished round, else None; RunError where its checkpoint has been changed since."""
        report = self.evaluation.metrics.recorded(round_index)
        if report is None:
            return None
        model = self.training.model_of(round_index)
        return checked(report, model, self.context.engine.fingerprint(model))


def run(stages: Stages, *, rounds: int) -> Iterator[RoundReport]:
    """Run the rounds that are missing, and yield the report of each from round 0 to `rounds`, in order.

    Round 0 evaluates the model that the loop starts from. Ends early where the gate ends the run.
    """
    policy = stages.training.start()
    draw_damaged_again(stages)
    for round_index in range(rounds + 1):
        report = stages.recorded(round_index)
        if report is None:
            if round_index > 0:
                sample_round(stages, round_index, policy)
                stages.selection.select(round_index)
                policy = stages.training.train(round_index, policy)
            stages.evaluation.evaluate(round_index, policy)
            report = stages.evaluation.record(round_index, policy)
        yield report
        if stages.evaluation.metrics.ends(report):
            return
        policy = stages.training.policy_after(report)  # an earlier one, where the gate rolled the round back


def sample_round(stages: Stages, round_index: int, policy: Model) -> None:
    """Sample in waves until the budget is spent, then with hints; classify every problem and score the traces."""
    while units := stages.sampling.plan(round_index, policy):
        stages.sampling.sample(round_index, units, policy)
    stages.sampling.sample_with_hints(round_index, policy)
    stages.selection.classify(round_index)
    stages.sampling.score(round_index, policy)


def draw_damaged_again(stages: Stages) -> None:
    """Draw the samples of damaged parts again, each by the model that drew it.

    Comes first: all other stages read the ledger.
    """
    lost = stages.context.ledger.lost().keys()
    for round_index in stages.context.folder.begun_rounds() if lost else []:
        stages.sampling.draw_again(round_index, stages.training.policy_before(round_index), lost)
        stages.evaluation.draw_again(round_index, stages.training.model_of(round_index), lost)


def do_stage(stages: Stages, stage: str) -> str:
    """Do one stage of the first unfinished round: "sample", "select", "train" or "eval"; return a line about it.

    Raises RunError where the stage before it is not complete; its text names the command for that.
    """
    folder = stages.context.folder
    finished = folder.finished_rounds()
    round_index = finished[-1] + 1 if finished else 0
    last = stages.recorded(round_index - 1) if round_index > 0 else None
    policy = stages.training.start() if last is None else stages.training.policy_after(last)
    draw_damaged_again(stages)

    def require(is_there: bool, what: str, before: str) -> None:
        if not is_there:
            raise RunError(
                f"{folder.path}: round {round_index} has no complete {what} yet: star-rft {before} {folder.path} first"
            )

    if round_index == 0 and stage != "eval":
        raise RunError(f"{folder.path}: the model it starts from is not evaluated yet: star-rft eval first")
    if stage == "sample":
        sample_round(stages, round_index, policy)
        return f"round {round_index}: its samples are in the ledger"
    if stage == "select":
        require(stages.sampling.is_sampled(round_index, policy), "samples", "sample")
        stages.selection.classify(round_index)
        stages.selection.select(round_index)
        return f"round {round_index}: {folder.selection(round_index)}"
    if stage == "train":
        require(folder.selection(round_index).exists(), "selection", "select")
        return f"round {round_index}: {stages.training.train(round_index, policy)}"
    if round_index > 0:
        policy = folder.checkpoint(round_index)
        require(folder.checkpoint(round_index).exists(), "checkpoint", "train")
    stages.evaluation.evaluate(round_index, policy)
    return f"round {round_index}: pass@k {stages.evaluation.record(round_index, policy).pass_at_k}"
