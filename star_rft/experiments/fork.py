"""Forks: runs that begin with the samples, the warm start or the evaluation that another run has already.

A fork that changes how traces are selected or trained on begins with the samples of the source's first round. One that
changes how samples are drawn begins with the warm start and the evaluation of the model that the loop starts from.
Shared files are hard links. After that a fork is a run like any other, and its source may be deleted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_rft import config as configs
from star_rft.config import Config
from star_rft.errors import RunError
from star_rft.files import locked, whole_folder, write_text
from star_rft.ledger import Ledger
from star_rft.ledger.store import link
from star_rft.runs.folder import BEFORE_ROUNDS, RunFolder

# Sections that may differ from the source, besides what may change in a run: those that act after the samples are
# drawn, and those that the samples depend on.
AFTER_SAMPLING = ("seed", "select", "train", "preference")
OF_SAMPLING = ("sample", "budget", "temperature_search", "rationalize")
# The engine also draws held-out samples, which are compared with those of round 0.
ENGINE = ("sample.backend", "sample.engine_options")
DRAWN = re.compile(r"r(?P<round>\d+)-(?P<split>\w+)-")
SCORED = re.compile(r"score-(?P<split>\w+)-(?P<round>\d+)")


def fork_folder(source: Path, name: str) -> Path:
    """Return the folder of a fork: a sibling of its source's folder, as an absolute path."""
    return source.resolve().parent / name


def fork_config(source: RunFolder, name: str, changes: Mapping[str, Any], *, folder: Path | None = None) -> Config:
    """Return the config of a fork: that of its source, with its own name and folder, and with changes.

    Args:
        source: The folder of the run to fork.
        name: The name of the fork.
        changes: Values by dotted key, such as `{"train.lr": 1e-5}`.
        folder: The folder of the fork; unless given, a sibling of the source's folder with the fork's name.

    Raises:
        RunError: The source is not a run folder.
        UserError: A change that the config cannot have.
    """
    if not source.config.exists():
        raise RunError(f"{source.path}: is not a run folder: it has no config.yaml")
    place = fork_folder(source.path, name) if folder is None else folder
    about = {"name": name, "run_dir": str(place), "forked_from": str(source.path)}
    return configs.load(source.config, {**changes, **about})


def fork(source: RunFolder, config: Config) -> int:
    """Make the folder of a fork, with all that it shares with its source.

    Args:
        source: The folder of the run to fork. It is locked meanwhile.
        config: The config of the fork, from `fork_config`.

    Returns:
        How many samples of the first round the fork shares with its source: 0 where it draws its own.

    Raises:
        RunError: The source has not got that far, the fork's folder exists, or the changes would have led to other
            held-out samples.
    """
    target = RunFolder(config.folder)
    if target.path.exists():
        raise RunError(f"{target.path}: exists already; give the fork another name")
    source_config = configs.load(source.config)
    draws = bool(configs.changes(source_config, config, besides=AFTER_SAMPLING))
    refused = configs.changes(source_config, config, besides=(*AFTER_SAMPLING, *OF_SAMPLING))
    refused += [line for line in configs.changes(source_config, config) if line.startswith(ENGINE)]
    if refused:
        *names, last = (*AFTER_SAMPLING, *OF_SAMPLING)
        raise RunError(
            f"{source.path}: with these settings its held-out samples would have been others: {'; '.join(refused)}."
            f" A fork may change {', '.join(names)} and {last}, but not {' and '.join(ENGINE)}"
        )
    with locked(source.path):
        if not (source.metrics(0).exists() and (draws or source.selection(1).exists())):
            missing = "its round 0 is not finished" if draws else "its first round is not sampled and selected"
            raise RunError(f"{source.path}: {missing} yet: star-rft run {source.path}")
        # A writer sets damaged parts aside, and the fork draws those samples itself.
        write_fork(source, Ledger(source.path, is_writer=True), config, draws=draws)
    query = "select count(*) from samples where round = 1"
    ((count,),) = Ledger(target.path).connect().sql(query).fetchall()
    return int(count)


def write_fork(source: RunFolder, ledger: Ledger, config: Config, *, draws: bool) -> None:
    """Write the folder of a fork, whole or not at all. The caller holds the source's lock and has checked `config`.

    `ledger` is the source's, open for writing. With `draws`, the samples of round 1 are left out.
    """
    with whole_folder(config.folder) as folder:
        share_start(source, folder)
        _share(source.round(0), RunFolder(folder).round(0))
        drawn = [*source.plans(1), source.hints(1), source.probes(1), source.temperature_search(1)]
        for path in [] if draws else drawn:
            _share(path, folder / path.relative_to(source.path))

        def keeps_row(round_index: int, split: str) -> bool:
            return round_index == 0 or (round_index == 1 and split == "train" and not draws)

        def keeps_unit(name: str) -> bool:
            """Newer verdicts are kept too, also those of samples that are left out: their units have other names."""
            found = DRAWN.match(name) or SCORED.fullmatch(name)
            return found is None or keeps_row(int(found["round"]), found["split"])

        ledger.fork(folder / "ledger", keeps_unit=keeps_unit, keeps_row=keeps_row)
        write_text(folder / "config.yaml", configs.dump(config))


def share_start(source: RunFolder, folder: Path, *, names: Sequence[str] = BEFORE_ROUNDS) -> None:
    """Share what a run has before its first round (problems, warm start, base model) with another folder.

    What `folder` has already is left as it is.
    """
    for name in names:
        if not (folder / name).exists():
            _share(source.path / name, folder / name)


def _share(path: Path, target: Path) -> None:
    """Link files that are only ever replaced whole; copy those that lines are appended to."""
    if path.suffix == ".jsonl" and path.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    elif path.is_dir():
        with whole_folder(target) as partial:
            shutil.copytree(
                path, partial, copy_function=lambda file, copy: link(Path(file), Path(copy)), dirs_exist_ok=True
            )
    elif path.exists():
        link(path, target)
