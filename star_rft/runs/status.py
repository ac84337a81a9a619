"""The status of a run by the files of its folder: finished, or the round and stage that come next."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.parquet as pq

from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import is_ended, read_report


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run is.

    Attributes:
        rounds: Rounds that the run is to have.
        finished: Numbers of the finished rounds.
        round: The round that comes next or is under way; None where the run is over.
        stage: The stage of that round.
        done: Units of sampling that are stored, where the stage samples.
        planned: Units that are planned; 0 where the stage does not sample.
    """

    rounds: int
    finished: tuple[int, ...]
    round: int | None
    stage: str | None
    done: int = 0
    planned: int = 0

    @property
    def is_over(self) -> bool:
        """Return whether no round is left to do."""
        return self.round is None

    def __str__(self) -> str:
        rounds = f"round {self.round} of {self.rounds}" if self.round else "round 0, the model that it starts from"
        if self.round is None:
            return "finished"
        units = f", {self.done} of {self.planned} units stored" if self.planned else ""
        return f"{rounds}: {self.stage}{units}"


def status_of(folder: RunFolder, *, rounds: int, patience: int | None = None) -> RunStatus:
    """Return the status of a run, by the files of its first round without metrics.json.

    Args:
        folder: The run folder.
        rounds: Rounds that the run is to have.
        patience: That of the gate, which may end the run earlier; None: no gate.
    """
    finished = tuple(folder.finished_rounds())
    round_index = finished[-1] + 1 if finished else 0
    has_ended = (
        bool(finished) and patience is not None and is_ended(read_report(folder.metrics(finished[-1])), patience)
    )
    if has_ended or round_index > rounds:
        return RunStatus(rounds, finished, None, None)
    stage = _stage(folder, round_index)
    done, planned = _units(folder, round_index, stage)
    return RunStatus(rounds, finished, round_index, stage, done, planned)


def _stage(folder: RunFolder, round_index: int) -> str:
    if round_index == 0:
        return "evaluating"
    reached = [
        (folder.checkpoint(round_index), "evaluating"),
        (folder.selection(round_index), "training"),
        (folder.frontier(round_index), "selecting"),
        (folder.hints(round_index), "sampling with hints"),
    ]
    return next((stage for path, stage in reached if path.exists()), "sampling")


def _units(folder: RunFolder, round_index: int, stage: str) -> tuple[int, int]:
    plans = {
        "evaluating": [folder.eval_plan(round_index)],
        "sampling with hints": [folder.hints(round_index)],
        "sampling": folder.plans(round_index),
    }
    found = [path for path in plans.get(stage, ()) if path.exists()]
    names = {name for path in found for name in pq.read_table(path, columns=["unit"])["unit"].unique().to_pylist()}
    return len(names & Ledger(folder.path).units().keys()), len(names)
