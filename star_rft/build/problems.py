"""Loads the problems of a run, checks them and writes them to the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

import verifiers
from star_rft.config import Config, ConfigError, SourceConfig
from star_rft.data import DataError, check_references, overlaps, read_problems, require_clean, write_problems
from star_rft.data import load as load_problems
from star_rft.runs.folder import RunFolder
from star_rft.sampling.hints import answer_of
from star_rft.types import Problem, Split

Rows = Mapping[str, Sequence[Mapping[str, Any] | Problem]]


def verifier_of(config: Config) -> verifiers.Check:
    """Return the config's verifier with its options. Raises VerifierError for a name or an option it cannot have."""
    return verifiers.get(config.verifier.name).bound(config.verifier.options)


def load_split(config: Config, split: Split, rows: Rows) -> list[Problem]:
    """Return the problems of a split, from `rows` where they have it. Raises ConfigError for data it cannot read."""
    source = getattr(config.data, split)
    return [] if source is None else _load(source, config, key=f"data.{split}", split=split, rows=rows.get(split))


def _load(
    source: SourceConfig,
    config: Config,
    *,
    key: str,
    split: str,
    rows: Sequence[Mapping[str, Any] | Problem] | None = None,
) -> list[Problem]:
    flat = source.model_dump(exclude={"source", "split"})
    name = config.verifier.name
    try:
        if rows is not None and all(isinstance(row, Problem) for row in rows):
            problems = list({row.id: row for row in rows if isinstance(row, Problem)}.values())[: source.limit]
        elif rows is not None:
            problems = load_problems(rows, verifier=name, **flat)  # type: ignore[arg-type]
        else:
            where = source.split or role_of(source.source, split)
            problems = load_problems(source.source, verifier=name, split=where, **flat)
        check_references(problems, verifier_of(config))
    except DataError as error:
        raise ConfigError(f"{key}: {error}") from None
    return problems


def role_of(source: str | list[str], split: str) -> str | None:
    """Return which split of a source to read: `split` for hub names and folders, None for files and globs."""
    is_files = not isinstance(source, str) or Path(source).is_file() or has_magic(source)
    return None if is_files else split


def load_all(config: Config, rows: Rows) -> tuple[dict[Split, list[Problem]], list[Problem]]:
    """Return the problems by split, and those of the warm start.

    Train problems that contain a held-out one are handled as `data.contamination` says.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    problems = {split: load_split(config, split, rows) for split in splits}
    warm_start = _warm_start_data(config, problems["train"])
    if config.data.contamination != "allow":
        report = overlaps([*problems["train"], *warm_start], [*problems["dev"], *problems["test"]])
        if config.data.contamination == "stop":
            require_clean(report)
        problems["train"] = [p for p in problems["train"] if p.id not in report.train_ids]
        warm_start = [p for p in warm_start if p.id not in report.train_ids]
    return problems, warm_start


def settled_problems(folder: RunFolder, config: Config, rows: Rows) -> tuple[dict[Split, list[Problem]], list[Problem]]:
    """Return the problems of a run by split, and those of the warm start.

    The first call loads the sources and writes the problems to the run folder. Later calls read them from there, so
    the sources may change or disappear.
    """
    if not folder.problems.exists():
        problems, warm_start = load_all(config, rows)
        check_data(config, problems)
        write_problems(folder.warm_start_problems, {"train": warm_start})
        write_problems(folder.problems, problems)
    return read_problems(folder.problems), read_problems(folder.warm_start_problems)["train"]


def _warm_start_data(config: Config, train: list[Problem]) -> list[Problem]:
    if config.warm_start is None:
        return []
    source = config.warm_start.data
    data = train if source is None else _load(source, config, key="warm_start.data", split="train")
    if without := [problem for problem in data if problem.solution is None]:
        raise ConfigError(f"warm_start.data: problem {without[0].id} has no reference solution to train on")
    return data


def check_data(config: Config, problems: Mapping[Split, list[Problem]]) -> None:
    """Raise ConfigError for problems that lack what the config needs, such as reference solutions."""
    if config.select.reference_solutions > 0 and (missing := [p for p in problems["train"] if p.solution is None]):
        raise ConfigError(
            f"select.reference_solutions={config.select.reference_solutions} needs reference solutions, but data.train"
            f" has none for {len(missing)} of {len(problems['train'])} problems (the first: {missing[0].id});"
            " set it to 0"
        )
    if config.rationalize is not None:
        for problem in problems["train"]:
            answer_of(problem)
