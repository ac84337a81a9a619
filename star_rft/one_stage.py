"""One stage of a run, for the commands that do no more than that."""

from __future__ import annotations

from star_rft.files import RunError
from star_rft.stages import RunStages


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
