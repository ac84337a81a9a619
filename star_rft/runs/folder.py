"""The paths in a run folder that stages read and write; docs/ledger.md describes the files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from star_rft.files import read_json

# Files and folders of a run that exist before its first round.
BEFORE_ROUNDS = (
    "problems.parquet",
    "warm_start.parquet",
    "warm_start",
    "warm_start_float32",
    "base_model",
    "scratch_model",
    "reviews.jsonl",
)


def float32_of(model: str | Path) -> Path:
    """Return the folder for the float32 weights of a checkpoint, which exists while a later round may train from them.

    It is not inside the checkpoint, as engines load every file of weights in a folder.
    """
    path = Path(model)
    return path.with_name(f"{path.name}_float32")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths in the run folder `path`; a path does not say that there is a file."""

    path: Path

    @property
    def config(self) -> Path:
        """Return the file of the run's config, with all defaults and the versions it began with."""
        return self.path / "config.yaml"

    @property
    def problems(self) -> Path:
        """Return the table of all problems (`data.problems`)."""
        return self.path / "problems.parquet"

    @property
    def warm_start_problems(self) -> Path:
        """Return the table of the problems that the warm start trains on."""
        return self.path / "warm_start.parquet"

    @property
    def base_model(self) -> Path:
        """Return the folder for a base that is converted once, from GGUF."""
        return self.path / "base_model"

    @property
    def scratch_model(self) -> Path:
        """Return the folder for random weights in a model's architecture, where a run begins from scratch."""
        return self.path / "scratch_model"

    @property
    def warm_start(self) -> Path:
        """Return the checkpoint of the warm start."""
        return self.path / "warm_start"

    @property
    def reviews(self) -> Path:
        """Return the file of people's reviews of suspected label errors (`frontier.review`)."""
        return self.path / "reviews.jsonl"

    def round(self, number: int) -> Path:
        """Return the folder of a round."""
        return self.path / "rounds" / f"{number:03d}"

    def plan(self, number: int, wave: int = 0) -> Path:
        """Return the plan of a wave of a round's sampling."""
        return self.round(number) / (f"plan-{wave:03d}.parquet" if wave else "plan.parquet")

    def plans(self, number: int) -> list[Path]:
        """Return the existing plans of a round's waves."""
        return sorted(self.round(number).glob("plan*.parquet"))

    def frontier(self, number: int) -> Path:
        """Return the table of the class of each train problem after a round's samples."""
        return self.round(number) / "frontier.parquet"

    def flagged(self, number: int) -> Path:
        """Return the table of selected traces that may be correct by luck."""
        return self.round(number) / "flagged.parquet"

    def probes(self, number: int) -> Path:
        """Return the plan of the samples that a round's temperature is chosen from."""
        return self.round(number) / "probes.parquet"

    def temperature_search(self, number: int) -> Path:
        """Return the file of the temperature and threshold that a round chose."""
        return self.round(number) / "temperature_search.json"

    def hints(self, number: int) -> Path:
        """Return the plan of what a round samples with a hint."""
        return self.round(number) / "hints.parquet"

    def selection(self, number: int) -> Path:
        """Return the table of the traces that a round selected and dropped."""
        return self.round(number) / "selection.parquet"

    def preferences(self, number: int) -> Path:
        """Return the table of preferences that a round trains on."""
        return self.round(number) / "preferences.parquet"

    def checkpoint(self, number: int) -> Path:
        """Return the model that a round trained."""
        return self.round(number) / "checkpoint"

    def remove_float32(self, trained: int) -> None:
        """Remove the float32 weights that no later round starts from, once round `trained` has trained.

        The next round starts from the model of this one, or from the best one before it if the gate rolls this one
        back. The weights of the warm start are kept: a fork or a roll-back to the start begins with them.
        """
        best = None
        for number in self.finished_rounds():
            gate = read_json(self.metrics(number)).get("gate") if number < trained else None
            best = gate["evidence"].get("best", best) if gate else best
        for number in self.begun_rounds():
            if number < trained and number != best:
                shutil.rmtree(float32_of(self.checkpoint(number)), ignore_errors=True)

    def supervised(self, number: int) -> Path:
        """Return the model between supervised and preference training, where a round does both."""
        return self.round(number) / "supervised"

    def verifier(self, number: int) -> Path:
        """Return the model that a round trains to tell correct traces from incorrect ones (V-STaR)."""
        return self.round(number) / "verifier"

    def eval_plan(self, number: int) -> Path:
        """Return the plan of a round's held-out samples."""
        return self.round(number) / "eval_plan.parquet"

    def eval(self, number: int) -> Path:
        """Return the table of a round's held-out outcomes by problem (`evaluation.evaluate`)."""
        return self.round(number) / "eval.parquet"

    def metrics(self, number: int) -> Path:
        """Return the file of a round's report; a round that has it is finished."""
        return self.round(number) / "metrics.json"

    def control(self, name: str, number: int, seed: int) -> Path:
        """Return the folder of a control of a round, which is laid out like a run folder."""
        return self.path / "controls" / f"{name}-r{number:03d}-s{seed}"

    @property
    def work(self) -> Path:
        """Return the folder of trainer checkpoints of the training that is under way; removed when it ends."""
        return self.path / "work"

    @property
    def timeline(self) -> Path:
        """Return the file of when each resource was busy (`runs.timing`)."""
        return self.path / "timeline.jsonl"

    @property
    def tracking(self) -> Path:
        """Return the folder of what trackers store."""
        return self.path / "tracking"

    def begun_rounds(self) -> list[int]:
        """Return the numbers of the rounds that have a folder, ascending."""
        return sorted(int(path.name) for path in self.path.glob("rounds/*") if path.name.isdigit())

    def finished_rounds(self) -> list[int]:
        """Return the numbers of the rounds that have metrics.json, ascending."""
        return sorted(int(path.parent.name) for path in self.path.glob("rounds/*/metrics.json"))
