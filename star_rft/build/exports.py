"""Builds an export of a run: checks the options and opens the data that its rows are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.build import card_config, has_quarantine, mixture_of, settle
from star_rft.build.models import named_model_of
from star_rft.build.sampling import policy_sample_indices, prompter_of, train_decodings
from star_rft.config import Config
from star_rft.data import read_problems
from star_rft.errors import UserError
from star_rft.exports.export import ExportResult, export
from star_rft.exports.files import refuse
from star_rft.exports.formats import Job
from star_rft.exports.rows import Material, foreign_models
from star_rft.ledger import Ledger
from star_rft.progress import Progress
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import chosen_rounds
from star_rft.training.dataset import CorpusSpec, SampleOrigin
from star_rft.types import Model

if TYPE_CHECKING:
    import duckdb

# The options that each format has besides its rounds.
OPTIONS: dict[str, tuple[str, ...]] = {
    "sft": ("--for", "--tokens"),
    "dpo": ("--for", "--pairs", "--tokens"),
    "jsonl": ("--include", "--split", "--tokens"),
    "parquet": ("--include", "--split", "--tokens"),
    "hub-folder": ("--include", "--tokens"),
}
VALUES = {
    "--for": ("trl", "axolotl", "llama-factory"),
    "--include": ("selected", "correct", "all"),
    "--split": ("train", "dev", "test"),
}


def export_run(
    folder: RunFolder,
    format: str,
    options: Mapping[str, Any],
    *,
    round_index: int | None = None,
    all_rounds: bool = False,
    licence: str | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress,
) -> ExportResult:
    """Write what rounds of a run trained on, or its traces, with a data card.

    `options` are those of the format, by their names on the command line (`OPTIONS`), None where not given. Raises
    UserError before any work for an option that the format does not have, and where there is nothing to write.
    """
    config = settle(str(folder.path))
    given = {name: value for name, value in options.items() if value is not None}
    _check(format, given, is_pairing=config.preference is None)
    if round_index is not None and all_rounds:
        raise UserError("--round and --all-rounds exclude each other: give one")
    rounds = chosen_rounds(folder, number=round_index, every=all_rounds)
    job = _job(format, rounds, given, licence=licence, every=all_rounds)
    place = out or folder.path / "export" / _name(job, every=all_rounds)
    refuse(place, force=force)
    con = Ledger(folder.path).connect()
    material = _material(folder, config, con, rounds) if format in ("sft", "dpo", "hub-folder") else None
    card = card_config(config, is_chat=material is not None and material.prompter.is_chat)
    return export(folder, card, con, material, job, out=place, force=force, progress=progress)


def _check(format: str, given: Mapping[str, Any], *, is_pairing: bool) -> None:
    """Raise UserError for a format, an option or a value that does not exist, and for options of other formats."""
    if format not in OPTIONS:
        raise UserError(f"--format {format!r}: there is no such format; valid are {', '.join(OPTIONS)}")
    for name, value in given.items():
        if name not in OPTIONS[format]:
            fitting = [other for other, names in OPTIONS.items() if name in names]
            raise UserError(f"{name} is not for --format {format}; it goes with {', '.join(fitting)}")
        if name in VALUES and value not in VALUES[name]:
            raise UserError(f"{name} {value!r} is not valid; valid are {', '.join(VALUES[name])}")
    if given.get("--pairs", 1) < 1:
        raise UserError(f"--pairs {given['--pairs']} must be 1 or more")
    if "--pairs" in given and not is_pairing:
        raise UserError("--pairs: this run compared traces itself (preference), and those pairs are what is exported")
    if given.get("--include") == "selected" and given.get("--split", "train") != "train":
        raise UserError(
            f"--include selected: nothing of {given['--split']} is selected, it is held out; valid: correct, all"
        )


def _job(format: Any, rounds: Sequence[int], given: Mapping[str, Any], *, licence: str | None, every: bool) -> Job:
    split = given.get("--split", "train")
    which = ["--all-rounds"] if every else ["--round", str(rounds[0])]
    more = [part for name, value in given.items() for part in ((name,) if value is True else (name, str(value)))]
    return Job(
        format=format,
        rounds=rounds,
        tool=given.get("--for", "trl"),
        include=given.get("--include", "selected" if split == "train" else "all"),
        split=split,
        tokens=given.get("--tokens", False),
        pairs=given.get("--pairs", 1),
        licence=licence or "other",
        command=" ".join(["--format", format, *which, *more]),
    )


def _name(job: Job, *, every: bool) -> str:
    """Return the name of an export's folder: a different one for each choice of rows."""
    parts: list[str] = [job.format, "all" if every else f"{job.rounds[0]:03d}"]
    parts += [job.tool] if job.tool != "trl" else []
    parts += [job.split] if job.split != "train" else []
    parts += [job.include] if job.include != ("selected" if job.split == "train" else "all") else []
    return "-".join(parts)


def _material(folder: RunFolder, config: Config, con: duckdb.DuckDBPyConnection, rounds: Sequence[int]) -> Material:
    prompter = prompter_of(config, _tokenizer_home(folder, config, rounds))
    return Material(
        con=con,
        spec=CorpusSpec(
            problems={problem.id: problem for problem in read_problems(folder.problems)["train"]},
            prompter=prompter,
            origin=SampleOrigin(
                stops=prompter.stops(train_decodings(config)[0]),
                foreign=foreign_models(con, policy_sample_indices(config)),
            ),
            seed=config.seed,
            mixture=mixture_of(config),
            anchor=read_problems(folder.warm_start_problems)["train"],
        ),
        prompter=prompter,
        has_quarantine=has_quarantine(config),
    )


def _tokenizer_home(folder: RunFolder, config: Config, rounds: Sequence[int]) -> Model:
    """Return a folder with the run's tokenizer: a checkpoint's, so that the base model need not be on this machine."""
    made = folder.checkpoint(rounds[-1])
    return made if made.exists() else named_model_of(config, folder)
