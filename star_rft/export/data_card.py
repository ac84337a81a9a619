"""The card of exported data: what it is, how it was made, what it came to, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_rft.export import facts, telling
from star_rft.export.facts import Told, hub_name
from star_rft.export.loading import Snippet
from star_rft.export.markdown import card, counted, table
from star_rft.runs.folder import RunFolder
from star_rft.types import RoundReport

if TYPE_CHECKING:
    import duckdb

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))


@dataclass(frozen=True, slots=True)
class File:
    """A file of an export. `columns` are its columns and what they mean; `config` is its name on the hub, if any."""

    name: str
    rows: int
    said: str
    columns: Mapping[str, str]
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export is, for its card: `noun` says what its rows are, `elsewhere` how other trainers get theirs."""

    rounds: Sequence[int]
    noun: str
    lead: str
    files: Sequence[File]
    snippets: Sequence[Snippet]
    elsewhere: str
    command: str
    licence: str


def data_card(folder: RunFolder, con: duckdb.DuckDBPyConnection, told: Told, exported: Exported) -> str:
    config, rounds = told.config, exported.rounds
    reports = facts.read_reports(folder, rounds)
    began = {number: facts.started_from(folder, config, number) for number in rounds}
    which = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
    title = f"{exported.noun} of {which} of {config['name']}"
    return card(
        "data_card.md",
        _header(title, config, exported),
        title=title,
        lead=exported.lead,
        files=table(["file", "rows"], [[f"`{file.name}`", f"{file.rows:,}"] for file in exported.files]),
        contents=[(file.name, file.said, _columns(file.columns)) for file in exported.files],
        told=told,
        made=telling.how_it_was_made(told, facts.verifiers_of(con, rounds)),
        rounds=telling.rounds_table(rounds, reports, began),
        lineage=_lineage(folder, config, rounds, reports),
        dropped=telling.dropped_table(rounds, reports),
        held_out=_held_out(folder, config, rounds),
        limits=telling.limits(told, list(reports.values())),
        snippets=exported.snippets,
        elsewhere=exported.elsewhere,
        command=exported.command,
        licence=exported.licence,
    )


def _header(title: str, config: Mapping[str, Any], exported: Exported) -> dict[str, Any]:
    configs: list[dict[str, Any]] = [
        {"config_name": file.config, "data_files": [{"split": "train", "path": file.name}]}
        for file in exported.files
        if file.config
    ]
    if configs:
        configs[0]["default"] = True
    sources = [config["data"]["train"]["source"]] if config["data"]["train"] else []
    names = [name for source in sources for name in (source if isinstance(source, list) else [source])]
    return {
        "license": exported.licence,
        "pretty_name": title,
        "task_categories": ["text-generation"],
        "size_categories": [_size(max(file.rows for file in exported.files))],
        "source_datasets": [name for name in names if "/" in name and hub_name(name)] or None,
        "tags": ["star-rft", "reasoning", "rejection-sampling", "synthetic"],
        "configs": configs or None,
    }


def _size(rows: int) -> str:
    return next((name for bound, name in SIZES if rows < bound), "10M<n<100M")


def _columns(columns: Mapping[str, str]) -> str:
    return table(["column", "what it is"], [[f"`{name}`", said] for name, said in columns.items()])


def _lineage(
    folder: RunFolder, config: Mapping[str, Any], rounds: Sequence[int], reports: Mapping[int, RoundReport]
) -> str:
    """Say in which rounds the model of the last of these rounds was trained, where it is there."""
    last, lineage = rounds[-1], facts.lineage(folder, config)
    if last not in reports:
        return ""
    led = sorted(lineage.rounds(last))
    warm = " and in the warm start" if lineage.warms_up and lineage.start != "base" else ""
    listed = f"{counted(len(led), 'round')}, {', '.join(map(str, led))}" if len(led) > 1 else f"round {last} alone"
    return f"The model of round {last} was trained in {listed}{warm}."


def _held_out(folder: RunFolder, config: Mapping[str, Any], rounds: Sequence[int]) -> list[tuple[str, str]]:
    """Return the figures of the last evaluated one of these rounds."""
    for number in reversed(rounds):
        splits = [facts.held_out(folder, number, split=split, ks=config["eval"]["k"]) for split in ("dev", "test")]
        if found := [split for split in splits if split is not None]:
            words = f"Round {number} on "
            return [(words + telling.held_out_words(it, config), telling.held_out_table(it)) for it in found]
    return []
