"""Trackers: what is logged, once, over resumed runs; and that none of them can end or hold up a run."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class

import star_rft
from star_rft.errors import UserError
from star_rft.stages.trackers import Trackers, check, open_trackers
from star_rft.types import RoundReport
from tests.small_runs import call, write_config


class Notebook(GeneralTracker):
    """A tracker that keeps what it is told, and fails or hangs when it is told to."""

    name = "notebook"
    requires_logging_directory = True
    told: ClassVar[list[tuple[int | None, dict[str, Any]]]] = []
    settings: ClassVar[list[dict[str, Any]]] = []
    fails_at: ClassVar[str] = ""
    hangs: ClassVar[threading.Event | None] = None

    def __init__(self, run_name: str, logging_dir: Path) -> None:
        super().__init__()
        self.folder = logging_dir

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        self._maybe("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self._maybe("log")
        self.told.append((step, values))

    def finish(self) -> None:
        self._maybe("finish")

    def _maybe(self, what: str) -> None:
        if self.fails_at == what:
            raise ConnectionError("no route\nto the server")
        if self.hangs is not None and what == "log":
            self.hangs.wait(30)


@pytest.fixture
def notebook() -> Iterator[type[Notebook]]:
    register_tracker_class(Notebook)
    yield Notebook
    del LOGGER_TYPE_TO_CLASS["notebook"]
    Notebook.told.clear()
    Notebook.settings.clear()
    Notebook.fails_at = ""
    Notebook.hangs = None


def opened(folder: Path, name: str = "notebook") -> Trackers:
    return open_trackers(name, folder=folder, run="mine", settings={"train": {"lr": 0.1}, "eval": {"k": [1, 4]}})


def nothing(*step: float) -> None:
    return None


def train(trackers: Trackers, *, round_index: int, steps: range, of: int) -> None:
    on_step = trackers.training("training", round_index, nothing)
    for step in steps:
        on_step(step, of, 1 / step, 100.0, 1e-3)


def test_a_tracker_that_does_not_exist_is_named_with_the_valid_ones(tmp_path: Path) -> None:
    done = call("run", str(write_config(tmp_path)), "--dry-run", "report_to=tensorbord", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "report_to: 'tensorbord' is no tracker (did you mean 'tensorboard'?)" in line
    assert "trackio, wandb; null: none" in line


def test_one_that_is_not_installed_fails_with_the_command_that_installs_it() -> None:
    with pytest.raises(UserError, match="report_to: comet_ml is not installed: pip install comet-ml"):
        check(["tensorboard", "comet_ml"])
    check("tensorboard")
    check(None)


@pytest.mark.full
def test_tensorboard_reads_what_a_run_and_its_resumption_logged_once(finished: Path, tmp_path: Path) -> None:
    """The tracker is new to a run of two finished rounds, which then goes on, and is run once more."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for _ in range(2):
        reports = list(star_rft.run(run, ["report_to=tensorboard", "rounds=3"]))
    events = EventAccumulator(str(run / "tracking/tensorboard"))
    events.Reload()
    scored = [(event.step, event.value) for event in events.Scalars("held_out/pass_at_1")]
    assert scored == [(report.round, pytest.approx(report.pass_at_1)) for report in reports]
    steps = json.loads((run / "rounds/003/checkpoint/fit.json").read_text())["report"]["steps"]
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, steps + 1))
    assert set(events.Tags()["scalars"]) >= {"train/learning_rate", "train/tokens_per_second", "kl/own"}
    assert "gate/action/text_summary" in events.Tags()["tensors"]
    assert "train.lr: 0.001" in next(run.glob("tracking/tensorboard/*/hparams.yml")).read_text()


def test_steps_go_on_over_rounds_and_a_resumed_training_repeats_none(notebook: type[Notebook], tmp_path: Path) -> None:
    first = opened(tmp_path)
    train(first, round_index=1, steps=range(1, 6), of=8)
    first.close(is_broken_off=True)
    resumed = opened(tmp_path)
    train(resumed, round_index=1, steps=range(4, 9), of=8)  # from the checkpoint after its third step
    train(resumed, round_index=2, steps=range(1, 4), of=3)
    resumed.round(RoundReport(round=2, model="", problems=1))
    resumed.round(RoundReport(round=2, model="", problems=1))
    resumed.close()
    again = opened(tmp_path)
    again.round(RoundReport(round=2, model="", problems=1))
    again.close()
    trained = [(step, values["train/round"]) for step, values in notebook.told if "train/loss" in values]
    assert trained == [*((step, 1) for step in range(1, 9)), *((step, 2) for step in range(9, 12))]
    assert [step for step, values in notebook.told if "train/loss" not in values] == [2]
    assert notebook.settings == [{"train.lr": 0.1, "eval.k": "[1, 4]"}]


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_switched_off_with_one_warning(
    moment: str, notebook: type[Notebook], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notebook.fails_at = moment
    trackers = opened(tmp_path)
    train(trackers, round_index=1, steps=range(1, 4), of=3)
    trackers.close()
    train(trackers, round_index=2, steps=range(1, 4), of=3)
    trackers.close()
    assert [r.getMessage() for r in caplog.records if r.name == "star_rft"] == [
        "WARNING: tracker notebook failed (ConnectionError: no route to the server);"
        " it is switched off, and the run goes on without it"
    ]


def test_a_tracker_that_hangs_holds_up_neither_a_step_nor_the_end(
    notebook: type[Notebook], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("star_rft.stages.trackers.PATIENCE", 0.2)
    notebook.hangs = threading.Event()
    trackers = opened(tmp_path)
    train(trackers, round_index=1, steps=range(1, 2000), of=2000)
    trackers.close()
    notebook.hangs.set()
    (line,) = [r.getMessage() for r in caplog.records if r.name == "star_rft"]
    assert "tracker notebook has not answered for 0 s" in line


def test_a_tracker_that_is_far_behind_is_switched_off_during_the_run(
    notebook: type[Notebook], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("star_rft.stages.trackers.MOST_WAITING", 10)
    notebook.hangs = threading.Event()
    trackers = opened(tmp_path)
    train(trackers, round_index=1, steps=range(1, 20), of=20)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "star_rft"]
    assert "tracker notebook does not answer: 10 records wait for it" in line
    notebook.hangs.set()
    trackers.close()


def test_steps_that_were_never_logged_still_count(notebook: type[Notebook], tmp_path: Path) -> None:
    killed = opened(tmp_path)
    train(killed, round_index=1, steps=range(1, 6), of=8)  # it trained all 8, and was killed before the others came
    killed.close()
    resumed = opened(tmp_path)
    train(resumed, round_index=2, steps=range(1, 3), of=2)
    resumed.close()
    assert [step for step, values in notebook.told if values.get("train/round") == 2] == [9, 10]


def test_a_run_that_is_killed_during_its_first_record_continues_the_same_tracker_run(
    notebook: type[Notebook], tmp_path: Path
) -> None:
    notebook.fails_at = "log"
    first = opened(tmp_path)
    train(first, round_index=1, steps=range(1, 2), of=2)
    first.close()
    begun = json.loads((tmp_path / "notebook.json").read_text())["id"]
    notebook.fails_at = ""
    resumed = opened(tmp_path)
    train(resumed, round_index=1, steps=range(1, 3), of=2)
    resumed.close()
    assert json.loads((tmp_path / "notebook.json").read_text())["id"] == begun
    assert len(notebook.settings) == 1


@pytest.mark.full
def test_a_whole_run_outlives_its_tracker(
    notebook: type[Notebook], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notebook.fails_at = "log"
    reports = list(star_rft.run(write_config(tmp_path, rounds=0), {"report_to": ["notebook"]}))
    assert [report.round for report in reports] == [0]
    assert (
        sum(record.levelno == logging.WARNING and "notebook" in record.getMessage() for record in caplog.records) == 1
    )


def test_only_rank_0_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not opened(tmp_path, "tensorboard").trackers
    monkeypatch.setenv("RANK", "0")
    assert len(opened(tmp_path, "tensorboard").trackers) == 1
    assert not (tmp_path / "tensorboard").exists()  # nothing is started before there is something to log


@pytest.mark.full
def test_the_state_of_the_trainers_accelerator_is_not_touched(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from star_rft.types import RoundReport;"
        " from star_rft.stages.trackers import open_trackers;"
        " trackers = open_trackers('tensorboard', folder=Path(sys.argv[1]), run='mine', settings={'a': 1});"
        " trackers.round(RoundReport(round=0, model='', problems=1, seconds={'evaluate': 1.0})); trackers.close();"
        " from accelerate.state import PartialState; print(PartialState._shared_state)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{}\n", "")
    assert list((tmp_path / "tensorboard").glob("events.*"))
