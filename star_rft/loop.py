"""The outer loop: sample, verify, select, train, evaluate, again. Read this first.

Every stage is idempotent: it does what is missing in the run folder and nothing else. So the same call starts
a run, continues it after whatever stopped it, and extends it by more rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from star_rft.errors import RunError
from star_rft.sampling.plan import Unit
from star_rft.stages.stages import RunStages
from star_rft.types import Model, RoundReport


class Stages(Protocol):
    """What a round consists of. `build.py` makes these from a config; models are checkpoint folders."""

    def start(self) -> Model: ...
    def mend(self) -> None: ...
    def plan(self, round: int, policy: Model) -> list[Unit]: ...
    def sample_and_verify(self, round: int, units: list[Unit], policy: Model) -> None: ...
    def rationalize(self, round: int, policy: Model) -> None: ...
    def classify(self, round: int) -> None: ...
    def score(self, round: int, policy: Model) -> None: ...
    def select(self, round: int) -> None: ...
    def train(self, round: int, policy: Model) -> Model: ...
    def evaluate(self, round: int, policy: Model) -> None: ...
    def record(self, round: int, policy: Model) -> RoundReport: ...
    def recorded(self, round: int) -> RoundReport | None: ...
    def ends(self, report: RoundReport) -> bool: ...
    def policy_after(self, report: RoundReport) -> Model: ...


def run(stages: Stages, *, rounds: int) -> Iterator[RoundReport]:
    """Yield a report a round; round 0 is the evaluation of the model that the loop starts from."""
    policy = stages.start()
    stages.mend()
    for round in range(rounds + 1):
        report = stages.recorded(round)
        if report is None:
            if round > 0:
                while units := stages.plan(round, policy):
                    stages.sample_and_verify(round, units, policy)
                stages.rationalize(round, policy)
                stages.classify(round)
                stages.score(round, policy)
                stages.select(round)
                policy = stages.train(round, policy)
            stages.evaluate(round, policy)
            report = stages.record(round, policy)
        yield report
        if stages.ends(report):
            return
        policy = stages.policy_after(report)  # an earlier one, where the gate rolled the round back


def do_stage(stages: RunStages, stage: str) -> str:
    """Do one stage of the first unfinished round and say what was done.

    "train" needs the selection and "select" the samples of that round; what is missing is named.
    """
    finished = stages.folder.finished_rounds()
    round = finished[-1] + 1 if finished else 0
    last = stages.recorded(round - 1) if round > 0 else None
    policy = stages.start() if last is None else stages.policy_after(last)
    stages.mend()
    if round == 0 and stage != "eval":
        raise RunError(f"{stages.folder.path}: the model it starts from is not evaluated yet: star-rft eval first")
    if stage == "sample":
        while units := stages.plan(round, policy):
            stages.sample_and_verify(round, units, policy)
        stages.rationalize(round, policy)
        stages.classify(round)
        stages.score(round, policy)
        return f"round {round}: its samples are in the ledger"
    if stage == "select":
        stages.require(round, stages.is_sampled(round, policy), "samples", "sample")
        stages.classify(round)
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
