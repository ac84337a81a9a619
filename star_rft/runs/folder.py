"""The paths of a run folder: where each stage reads and writes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from star_rft.files import read_json

# What a run has before its first round.
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
    """Return where a model's weights lie in float32, if they do, while training may go on from them.

    It is a folder beside the published one: engines load every file of weights in a folder.
    """
    path = Path(model)
    return path.with_name(f"{path.name}_float32")


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def problems(self) -> Path:
        return self.path / "problems.parquet"

    @property
    def warm_start_problems(self) -> Path:
        return self.path / "warm_start.parquet"

    @property
    def base_model(self) -> Path:
        """Where a base that has to be converted (GGUF) is written once."""
        return self.path / "base_model"

    @property
    def scratch_model(self) -> Path:
        """Random weights in a model's architecture, for a run that begins from scratch."""
        return self.path / "scratch_model"

    @property
    def warm_start(self) -> Path:
        return self.path / "warm_start"

    @property
    def reviews(self) -> Path:
        """What people found of suspected label errors."""
        return self.path / "reviews.jsonl"

    def round(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:03d}"

    def plan(self, number: int, wave: int = 0) -> Path:
        return self.round(number) / (f"plan-{wave:03d}.parquet" if wave else "plan.parquet")

    def plans(self, number: int) -> list[Path]:
        """Return the plans of a round's waves that there are."""
        return sorted(self.round(number).glob("plan*.parquet"))

    def frontier(self, number: int) -> Path:
        """The class of each train problem after the round's samples, with its evidence."""
        return self.round(number) / "frontier.parquet"

    def flagged(self, number: int) -> Path:
        """Selected traces that may be right by luck."""
        return self.round(number) / "flagged.parquet"

    def probes(self, number: int) -> Path:
        """The plan of the samples that a round's temperature is chosen by."""
        return self.round(number) / "probes.parquet"

    def temperature_search(self, number: int) -> Path:
        return self.round(number) / "temperature_search.json"

    def hints(self, number: int) -> Path:
        """The plan of what is sampled again with a hint."""
        return self.round(number) / "hints.parquet"

    def selection(self, number: int) -> Path:
        return self.round(number) / "selection.parquet"

    def preferences(self, number: int) -> Path:
        return self.round(number) / "preferences.parquet"

    def checkpoint(self, number: int) -> Path:
        return self.round(number) / "checkpoint"

    def remove_float32(self, trained: int) -> None:
        """Remove float32 weights that no later round starts from, once a round has trained.

        The next round goes on from this one's model, or from the best before it where the gate rolls back. Those of
        the warm start stay: a fork, or a roll-back to the start, begins with them.
        """
        best = None
        for number in self.finished_rounds():
            gate = read_json(self.metrics(number)).get("gate") if number < trained else None
            best = gate["evidence"].get("best", best) if gate else best
        for number in self.begun_rounds():
            if number < trained and number != best:
                shutil.rmtree(float32_of(self.checkpoint(number)), ignore_errors=True)

    def supervised(self, number: int) -> Path:
        """The model between supervised and preference training, where a round does both."""
        return self.round(number) / "supervised"

    def verifier(self, number: int) -> Path:
        """A model that is trained to tell correct traces from incorrect ones (V-STaR)."""
        return self.round(number) / "verifier"

    def eval_plan(self, number: int) -> Path:
        return self.round(number) / "eval_plan.parquet"

    def eval(self, number: int) -> Path:
        return self.round(number) / "eval.parquet"

    def metrics(self, number: int) -> Path:
        return self.round(number) / "metrics.json"

    def control(self, name: str, number: int, seed: int) -> Path:
        """The folder, itself laid out like a run's, of a model that was trained beside a round to compare with it."""
        return self.path / "controls" / f"{name}-r{number:03d}-s{seed}"

    @property
    def work(self) -> Path:
        """Trainer checkpoints of the training that is going on; removed when it ends."""
        return self.path / "work"

    @property
    def timeline(self) -> Path:
        """When each resource was at work."""
        return self.path / "timeline.jsonl"

    @property
    def tracking(self) -> Path:
        """What trackers keep here, and what was logged to them."""
        return self.path / "tracking"

    def begun_rounds(self) -> list[int]:
        return sorted(int(path.name) for path in self.path.glob("rounds/*"))

    def finished_rounds(self) -> list[int]:
        return sorted(int(path.parent.name) for path in self.path.glob("rounds/*/metrics.json"))
