"""Sends metrics to trackers that accelerate knows, by name.

accelerate's tracker classes are used without its Accelerator: that one belongs to the trainer, which resets its state
for each training. Each tracker works in a thread of its own, so that a server that does not answer holds up no run;
one that fails is switched off with a warning. What a tracker has got is noted beside its files, so that a run that is
resumed goes on in the same tracker run and logs nothing twice.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from star_rft.errors import UserError
from star_rft.progress import OnStep
from star_rft.types import RoundReport

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger("star_rft")

PROJECT = "star-rft"
PIP_NAMES = {"comet_ml": "comet-ml"}
# The others take numbers only.
TAKES_TEXT = ("tensorboard", "wandb", "comet_ml", "trackio")
# The first part of the names of what a training logs, by its title.
PREFIXES = {"training": "train", "preference training": "train_preferences"}
PREFIXES |= {"training the verifier": "train_verifier", "warm start": "warm_start"}
# What waits for a tracker at most; one that is so far behind does not answer.
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

    installed = {str(tracker.value) for tracker in get_available_trackers()}
    own = LOGGER_TYPE_TO_CLASS.keys() - {str(tracker.value) for tracker in LoggerType}  # registered by the caller
    for name in listed(names):
        if name not in LOGGER_TYPE_TO_CLASS:
            close = difflib.get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(
                f"report_to: {name!r} is no tracker{hint}; valid: {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}; null: none"
            )
        if name not in installed | own:
            raise UserError(f"report_to: {name} is not installed: pip install {PIP_NAMES.get(name, name)}")


def listed(names: str | Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys([names] if isinstance(names, str) else names or ()))


@dataclass(slots=True)
class RecordedReport:
    """What a tracker has got, in a file beside its own: written after each thing that it got."""

    path: Path
    id: str = ""
    has_settings: bool = False
    rounds: list[int] = field(default_factory=list)
    # By training: the global step that it begins after, its steps, and the last one that was logged.
    trainings: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> RecordedReport:
        raw = json.loads(path.read_text()) if path.exists() else {"id": secrets.token_hex(4)}
        return cls(path, **raw)

    def write(self) -> None:
        """Write it whole, but without waiting for the disk: after a power cut a step may be logged twice."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({k: v for k, v in asdict(self).items() if k != "path"}))
        temporary.replace(self.path)

    def begins_after(self, training: str, steps: int) -> int:
        """Return the global step that a training begins after: that which the trainings before it ended with."""
        if training not in self.trainings:
            self.trainings[training] = [sum(known[1] for known in self.trainings.values()), steps, 0]
        return self.trainings[training][0]


@dataclass(slots=True, eq=False)
class Tracker:
    """One tracker and its thread, which starts with the first thing that there is to log."""

    name: str
    start: Callable[[str], GeneralTracker]
    settings: Mapping[str, Any]
    noted: RecordedReport
    is_off: bool = False
    _queue: Queue[Callable[[GeneralTracker], None] | None] = field(default_factory=lambda: Queue(MOST_WAITING))
    _thread: Thread | None = None

    def round(self, report: RoundReport) -> None:
        if report.round not in self.noted.rounds:
            self._do(lambda tracker: self._round(tracker, report))

    def step(self, training: str, prefix: str, step: int, steps: int, values: Values) -> None:
        self._do(lambda tracker: self._step(tracker, training, prefix, step, steps, values))

    def close(self, *, patience: float) -> None:
        """Wait until the tracker has got everything, but not for long."""
        if self._thread is None:
            return
        self._put(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self._switch_off(f"has not answered for {patience:.0f} s")
        self._thread = None

    def _do(self, what: Callable[[GeneralTracker], None]) -> None:
        if self.is_off:
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name=f"tracker-{self.name}", daemon=True)
            self._thread.start()
        self._put(what)

    def _put(self, what: Callable[[GeneralTracker], None] | None) -> None:
        try:
            self._queue.put_nowait(what)
        except Full:
            self._switch_off(f"does not answer: {MOST_WAITING:,} things wait for it")

    def _switch_off(self, why: str) -> None:
        if not self.is_off:
            self.is_off = True
            log.warning(f"WARNING: tracker {self.name} {why}; it is switched off, and the run goes on without it")

    # What the thread does

    def _work(self) -> None:
        try:
            tracker = self.start(self.noted.id)
            if not self.noted.has_settings:
                tracker.store_init_configuration(dict(self.settings))
                self.noted.has_settings = True
                self.noted.write()
            while not self.is_off and (what := self._queue.get()) is not None:
                what(tracker)
            tracker.finish()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # of whatever kind: no tracker is worth a run
            text = " ".join(str(error).split())[:200]
            self._switch_off(f"failed ({type(error).__name__}: {text})")

    def _round(self, tracker: GeneralTracker, report: RoundReport) -> None:
        if report.round in self.noted.rounds:
            return
        self._log(tracker, metrics_of(report), "round", report.round)
        self.noted.rounds.append(report.round)
        self.noted.write()

    def _step(self, tracker: GeneralTracker, training: str, prefix: str, step: int, steps: int, values: Values) -> None:
        before = self.noted.begins_after(training, steps)
        if step <= self.noted.trainings[training][2]:  # a training that was resumed repeats its last steps
            return
        self._log(
            tracker, {f"{prefix}/{name}": value for name, value in values.items()}, f"{prefix}/step", before + step
        )
        self.noted.trainings[training][2] = step
        self.noted.write()

    def _log(self, tracker: GeneralTracker, values: Values, axis: str, step: int) -> None:
        if self.name not in TAKES_TEXT:
            values = {name: value for name, value in values.items() if not isinstance(value, str)}
        if self.name == "wandb":  # has one axis that only rises, and others by name
            tracker.log({**values, axis: step})
        else:
            tracker.log(dict(values), step=step)


@dataclass(frozen=True, slots=True)
class Trackers:
    """All trackers of a run; none, where it reports to nobody."""

    trackers: Sequence[Tracker] = ()

    def round(self, report: RoundReport) -> None:
        """Log a round's metrics at step `round`, unless that was done before."""
        for tracker in self.trackers:
            tracker.round(report)

    def training(self, title: str, round_index: int, then: OnStep) -> OnStep:
        """Return what tells the trackers of each step, at a step that goes on over all trainings, and then `then`."""
        name, prefix = f"round {round_index}: {title}", PREFIXES[title]

        def on_step(step: int, steps: int, loss: float, tokens_per_second: float, lr: float) -> None:
            then(step, steps, loss, tokens_per_second, lr)
            values = {"loss": loss, "learning_rate": lr, "tokens_per_second": tokens_per_second, "round": round_index}
            for tracker in self.trackers:
                tracker.step(name, prefix, step, steps, values)

        return on_step if self.trackers else then

    def close(self, *, is_broken_off: bool = False) -> None:
        """Give the trackers some time for what waits for them, less of it to a run that is broken off."""
        until = monotonic() + (PATIENCE_WHEN_BROKEN_OFF if is_broken_off else PATIENCE)
        for tracker in self.trackers:
            tracker.close(patience=max(until - monotonic(), 0.1))


def open_trackers(
    names: str | Sequence[str] | None, *, folder: Path, run: str, settings: Mapping[str, Any]
) -> Trackers:
    """Return the trackers of a run, whose files lie in `folder`; `settings` are logged as hyperparameters.

    Nothing is started before there is something to log. Under a launcher only rank 0 reports.
    """
    if not names or os.environ.get("RANK", "0") != "0":
        return Trackers()
    flat = dict(_flat_settings(settings))
    return Trackers([_tracker(name, folder, run, flat) for name in listed(names)])


def _tracker(name: str, folder: Path, run: str, settings: Mapping[str, Any]) -> Tracker:
    def start(id: str) -> GeneralTracker:
        from accelerate import tracking

        # accelerate's own logger refuses to log before the state of an Accelerator exists.
        tracking.logger = logging.getLogger(tracking.__name__)
        folder.mkdir(parents=True, exist_ok=True)
        kind = tracking.LOGGER_TYPE_TO_CLASS[name]
        if name == "wandb":
            return _wandb(kind, folder, run, id)
        return _started(_made(name, kind, folder, run, id))

    return Tracker(name, start, settings, RecordedReport.read(folder / f"{name}.json"))


def _made(name: str, kind: type[Any], folder: Path, run: str, id: str) -> Any:
    """Return a tracker that is not started yet: for the same `id` the same run, where it can go on with one."""
    if name == "tensorboard":
        return kind(name, folder)
    if name == "trackio":
        return kind(PROJECT, name=f"{run}-{id}", resume="allow")
    if name == "dvclive":
        return kind(dir=str(folder / name), resume=True)
    return kind(PROJECT, folder) if kind.requires_logging_directory else kind(PROJECT)


def _started(tracker: Any) -> Any:
    tracker.main_process_only = False  # else every call asks, or makes, the state of an Accelerator
    tracker.start()
    return tracker


def _wandb(kind: type[Any], folder: Path, run: str, id: str) -> Any:
    """Start wandb, offline where nobody is logged in or the server does not answer, unless WANDB_MODE says how."""
    import wandb

    options: dict[str, Any] = {"name": run, "id": id, "resume": "allow", "dir": str(folder)}
    # Its copy of the output would hold our bars.
    options["settings"] = wandb.Settings(console="off", init_timeout=WANDB_PATIENCE)
    if "WANDB_MODE" in os.environ:
        tracker = _started(kind(PROJECT, **options))
    elif not _is_logged_in(wandb.Settings().base_url):
        tracker = _started(kind(PROJECT, **options, mode="offline"))
    else:
        try:
            tracker = _started(kind(PROJECT, **options))
        except wandb.Error as error:
            log.warning(f"WARNING: wandb works offline: {' '.join(str(error).split())[:200]}")
            wandb.teardown()  # its service holds the run that it could not begin
            tracker = _started(kind(PROJECT, **options, mode="offline"))
    tracker.run.define_metric("*", step_metric="round")
    for prefix in PREFIXES.values():
        tracker.run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/step")
    return tracker


def _is_logged_in(server: str) -> bool:
    """Whether wandb would find a key for a server without asking for one."""
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(server).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def metrics_of(report: RoundReport) -> dict[str, float | int | str]:
    """Return a round's report as flat numbers by name, and what the gate decided as text too; None is left out.

    The bounds of an interval stand beside its value as `_low` and `_high`; `pass_at_k` of 4 is `pass_at_4`.
    """
    fields = asdict(report)
    gate = fields.pop("gate") or {}
    groups: dict[str, Any] = {name: fields.pop(name) or {} for name in ("held_out", "test")}
    share = fields.pop("unsolved_share_interval")
    groups |= {name: fields.pop(name) for name, value in dict(fields).items() if isinstance(value, dict)}
    # Of what is counted by kind, a kind that is gone is 0: its curve must not end at the last number that it had.
    groups |= {name: dict.fromkeys(kinds, 0) | groups[name] for name, kinds in _kinds().items() if groups[name]}
    if report.round > 0:  # round 0 only evaluates
        groups["round"] = {**fields, "unsolved_share": share}
        del groups["round"]["round"]
    found = {name: value for group, values in groups.items() for name, value in _flat(group, values)}
    found["seconds/all"] = sum(report.seconds.values())
    decided = {name: gate[name] for name in ("action", "rule", "model_round") if name in gate}
    decided |= {"rolled_back": int(gate["rolled_back"])} if gate else {}
    return found | {f"gate/{name}": value for name, value in decided.items()}


def _kinds() -> dict[str, Sequence[str]]:
    from typing import get_args

    from star_rft.evaluation.trace_audit import KINDS
    from star_rft.frontier.classes import CLASSES
    from star_rft.frontier.history import Transition

    return {"classes": CLASSES, "transitions": get_args(Transition), "flagged": KINDS}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float | int]]:
    for key, value in values.items():
        name = f"{prefix}/{_plain(key)}"
        if isinstance(value, Mapping) and value.keys() == {"value", "low", "high"}:
            stem = name.removesuffix("_interval")
            bounds = [(f"{stem}_low", value["low"]), (f"{stem}_high", value["high"])]
            yield from [(stem, value["value"]), *bounds]
        elif key in ("pass_at_k", "maj_at_k"):
            yield from ((f"{name[:-1]}{k}", share) for k, share in value.items())
        elif isinstance(value, Mapping):
            yield from _flat(name, value)
        elif isinstance(value, int | float) and math.isfinite(value):
            yield name, value


def _plain(key: str) -> str:
    """Return a name that every tracker takes, also of a group of problems that a user has named."""
    return re.sub(r"[^A-Za-z0-9_.\- ]", "_", key)


def _flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat_settings(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", json.dumps(value)
        elif value is not None:
            yield f"{prefix}{key}", value
