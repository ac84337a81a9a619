"""Sends metrics to the trackers that accelerate knows, by name.

accelerate's tracker classes are used without its Accelerator, whose state the trainer resets for each training. Each
tracker works in its own thread, so that a server that does not answer delays no run; one that fails is switched off
with a warning.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, NamedTuple

from star_rft.errors import UserError
from star_rft.progress import OnStep
from star_rft.stages.flat_metrics import flat_settings, metrics_of
from star_rft.types import RoundReport
from verifiers.plugins import did_you_mean

log = logging.getLogger("star_rft")

PROJECT = "star-rft"
# The others take numbers only.
TAKES_TEXT = ("tensorboard", "wandb", "comet_ml", "trackio")
# The first part of a training metric's name, by the training's title.
PREFIXES = {"training": "train", "preference training": "train_preferences"}
PREFIXES |= {"training the verifier": "train_verifier", "warm start": "warm_start"}
# Records that wait for a tracker at most; one that is so far behind does not answer.
MOST_WAITING = 100_000
# Seconds that the end of a run, or of one that is broken off, waits for trackers.
PATIENCE, PATIENCE_WHEN_BROKEN_OFF = 60.0, 5.0
# Seconds in which wandb's server must have answered before it works offline.
WANDB_PATIENCE = 20

Values = Mapping[str, float | int | str]


def check(names: str | Sequence[str] | None) -> None:
    """Raise UserError for a tracker that accelerate does not know, or that is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    # Whatever else accelerate knows was registered by the caller.
    missing = {str(tracker.value) for tracker in set(LoggerType) - set(get_available_trackers())}
    for name in _listed(names):
        if name not in LOGGER_TYPE_TO_CLASS:
            hint, valid = did_you_mean(name, LOGGER_TYPE_TO_CLASS), ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise UserError(f"report_to: {name!r} is no tracker{hint}; valid: {valid}; null: none")
        if name in missing:
            raise UserError(f"report_to: {name} is not installed: pip install {name.replace('_', '-')}")


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys([names] if isinstance(names, str) else names or ()))


class Record(NamedTuple):
    """Values at a step of a series: "rounds", or a training of `steps` steps, counted from 1. `axis` names the step."""

    series: str
    step: int
    steps: int
    axis: str
    values: Callable[[], Values]


@dataclass(slots=True, eq=False)
class Tracker:
    """One tracker with its thread, which starts with the first record."""

    name: str
    folder: Path
    run: str
    settings: Mapping[str, Any]
    is_off: bool = False
    queue: SimpleQueue[Record | None] = field(default_factory=SimpleQueue)
    thread: Thread | None = None

    def put(self, record: Record | None) -> None:
        """Queue a record to be logged; None ends the thread."""
        if self.is_off:
            return
        if self.thread is None:
            self.thread = Thread(target=self._work, name=f"tracker-{self.name}", daemon=True)
            self.thread.start()
        if self.queue.qsize() < MOST_WAITING:
            self.queue.put(record)
        else:
            self._switch_off(f"does not answer: {MOST_WAITING:,} records wait for it")

    def close(self, patience: float) -> None:
        """Wait until the tracker has received everything, at most `patience` seconds."""
        if self.thread is not None:
            self.put(None)
            self.thread.join(patience)
            if self.thread.is_alive():
                self._switch_off(f"has not answered for {patience:.0f} s")
            self.thread = None

    def _switch_off(self, why: str) -> None:
        if not self.is_off:
            self.is_off = True
            log.warning(f"WARNING: tracker {self.name} {why}; it is switched off, and the run goes on without it")

    def _work(self) -> None:
        """Log each record that is new.

        A file says what was logged, so that a resumed run continues the same tracker run and logs nothing twice: the
        last step of each series, and how many steps the trainings before it have. It is written without waiting for
        the disk.
        """
        file, tracker = self.folder / f"{self.name}.json", None
        try:
            state: dict[str, Any] = {"id": secrets.token_hex(4), "rounds": [0, 0, -1], "trainings": {}}
            state |= json.loads(file.read_text()) if file.exists() else {}
            trainings = state["trainings"]
            while (record := self.queue.get()) is not None and not self.is_off:
                known = state if record.series == "rounds" else trainings
                before, _, last = known.get(record.series, (sum(steps for _, steps, _ in trainings.values()), 0, 0))
                if record.step <= last:
                    continue
                if tracker is None:
                    tracker = _started(self.name, self.folder, self.run, state["id"])
                    if not file.exists():
                        tracker.store_init_configuration(dict(flat_settings(self.settings)))
                        _write(file, state)  # a run that is broken off now continues this tracker run
                self._log(tracker, record.values(), record.axis, before + record.step)
                known[record.series] = (before, record.steps, record.step)
                _write(file, state)
            if tracker is not None:
                tracker.finish()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # of whatever kind: no tracker is worth a run
            self._switch_off(f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")

    def _log(self, tracker: Any, values: Values, axis: str, step: int) -> None:
        shown = {k: value for k, value in values.items() if self.name in TAKES_TEXT or not isinstance(value, str)}
        if self.name == "wandb":  # its own step only rises: `_wandb` names the axes among the values
            tracker.log({**shown, axis: step})
        else:
            tracker.log(shown, step=step)


def _write(file: Path, state: Mapping[str, Any]) -> None:
    file.with_suffix(".tmp").write_text(json.dumps(state))
    file.with_suffix(".tmp").replace(file)


@dataclass(frozen=True, slots=True)
class Trackers:
    """All trackers of a run; none, where `report_to` names none."""

    trackers: Sequence[Tracker] = ()

    def round(self, report: RoundReport) -> None:
        """Log a round's metrics at step `round`, unless that was done before."""
        for tracker in self.trackers:
            tracker.put(Record("rounds", report.round, 0, "round", partial(metrics_of, report)))

    def training(self, title: str, round_index: int, then: OnStep) -> OnStep:
        """Return a callback that logs each step, numbered over all trainings, after it has called `then` with it."""
        series, prefix = f"round {round_index}: {title}", PREFIXES[title]

        def on_step(step: int, steps: int, loss: float, tokens_per_second: float, lr: float) -> None:
            then(step, steps, loss, tokens_per_second, lr)
            values = {"loss": loss, "learning_rate": lr, "tokens_per_second": tokens_per_second, "round": round_index}
            named = {f"{prefix}/{name}": value for name, value in values.items()}
            for tracker in self.trackers:
                tracker.put(Record(series, step, steps, f"{prefix}/step", lambda: named))

        return on_step if self.trackers else then

    def close(self, *, is_broken_off: bool = False) -> None:
        """Wait for trackers that have records left, for a shorter time if the run is broken off."""
        until = monotonic() + (PATIENCE_WHEN_BROKEN_OFF if is_broken_off else PATIENCE)
        for tracker in self.trackers:
            tracker.close(max(until - monotonic(), 0.1))


def open_trackers(
    names: str | Sequence[str] | None, *, folder: Path, run: str, settings: Mapping[str, Any]
) -> Trackers:
    """Return the trackers of a run, whose files lie in `folder`; `settings` are logged as hyperparameters.

    Nothing is started before there is something to log. Under a launcher only rank 0 reports.
    """
    is_reporting = os.environ.get("RANK", "0") == "0"
    return Trackers([Tracker(name, folder, run, settings) for name in _listed(names) if is_reporting])


def _started(name: str, folder: Path, run: str, id: str) -> Any:
    """Start a tracker: for the same `id` the same tracker run, where it can continue one."""
    from accelerate import tracking
    from transformers.utils.logging import get_logger

    # accelerate's own logger refuses to log before the state of an Accelerator exists; this one warns once as well.
    tracking.logger = get_logger(tracking.__name__)
    folder.mkdir(parents=True, exist_ok=True)
    kind = tracking.LOGGER_TYPE_TO_CLASS[name]

    def start(**options: Any) -> Any:
        project = name if name == "tensorboard" else PROJECT  # tensorboard's files lie in a folder of this name
        tracker = kind(project, *([folder] if kind.requires_logging_directory else []), **options)
        tracker.main_process_only = False  # else every call asks for, or makes, the state of an Accelerator
        tracker.start()
        return tracker

    if name == "wandb":
        return _wandb(start, {"name": run, "id": id, "resume": "allow", "dir": str(folder)})
    resumable: dict[str, dict[str, Any]] = {
        "trackio": {"name": f"{run}-{id}", "resume": "allow"},
        "dvclive": {"dir": str(folder / name), "resume": True},
    }
    return start(**resumable.get(name, {}))


def _wandb(start: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Start wandb, offline where nobody is logged in or the server does not answer, unless WANDB_MODE says how."""
    import wandb

    # Its copy of the output would hold our progress bars.
    options["settings"] = wandb.Settings(console="off", init_timeout=WANDB_PATIENCE)
    offline, is_chosen = {"mode": "offline"}, "WANDB_MODE" in os.environ
    try:
        tracker = start(**options, **({} if is_chosen or _is_logged_in(wandb.Settings().base_url) else offline))
    except wandb.Error as error:
        if is_chosen:
            raise
        log.warning(f"WARNING: wandb works offline: {' '.join(str(error).split())[:200]}")
        wandb.teardown()  # its service holds the run that it could not begin
        tracker = start(**options, **offline)
    tracker.run.define_metric("*", step_metric="round")
    for prefix in PREFIXES.values():
        tracker.run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
    return tracker


def _is_logged_in(server: str) -> bool:
    """Return whether wandb would find a key for a server without asking for one."""
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(server).hostname or "") is not None
    return False
