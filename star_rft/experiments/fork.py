"""Forks: another run that begins with the samples, the warm start and the evaluation of one.

A fork that selects or trains otherwise begins with the first round's samples; one that samples otherwise with all that
is before them, the warm start and the evaluation of the model that the loop starts from. What both hold is on the disk
once. The fork is a run like any other; it does not need its source any more.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from star_rft import config as configs
from star_rft.config import Config
from star_rft.errors import RunError
from star_rft.files import locked, whole_folder, write_text
from star_rft.ledger import Ledger
from star_rft.ledger.store import link
from star_rft.runs.folder import BEFORE_ROUNDS, RunFolder

# What may differ from the source, besides what may change in a run: what follows the samples, and what they depend on.
AFTER = ("seed", "select", "train", "preference")
BEFORE = ("sample", "budget", "temperature_search", "rationalize")
# What draws is in the section `sample` and also draws held-out samples, which are compared with those of round 0.
ENGINE = ("sample.backend", "sample.engine_options")
DRAWN = re.compile(r"r(?P<round>\d+)-(?P<split>\w+)-")
SCORED = re.compile(r"score-(?P<split>\w+)-(?P<round>\d+)")


def fork(source: RunFolder, config: Config) -> int:
    """Begin the run of `config` with what it shares with another; return how many samples of the first round those are.

    Raises RunError where the source is not that far yet, where the folder exists, and for a config whose held-out
    samples would have been others.
    """
    target = RunFolder(config.folder)
    if target.path.exists():
        raise RunError(f"{target.path}: exists already; give the fork another name")
    shared = configs.load(source.config)
    draws = bool(configs.changes(shared, config, besides=AFTER))
    others = configs.changes(shared, config, besides=(*AFTER, *BEFORE))
    others += [line for line in configs.changes(shared, config) if line.startswith(ENGINE)]
    if others:
        *names, last = (*AFTER, *BEFORE)
        raise RunError(
            f"{source.path}: with these settings its held-out samples would have been others: {'; '.join(others)}."
            f" A fork may change {', '.join(names)} and {last}, but not {ENGINE[0]}"
        )
    with locked(source.path):
        if not (source.metrics(0).exists() and (draws or source.selection(1).exists())):
            missing = "its round 0 is not finished" if draws else "its first round is not sampled and selected"
            raise RunError(f"{source.path}: {missing} yet: star-rft run {source.path}")
        with whole_folder(target.path) as folder:
            for path in (source.path / name for name in BEFORE_ROUNDS):
                _share(path, folder / path.name)
            _share(source.round(0), RunFolder(folder).round(0))
            drawn = [*source.plans(1), source.hints(1), source.probes(1), source.temperature_search(1)]
            for path in [] if draws else drawn:
                _share(path, folder / path.relative_to(source.path))

            def keeps_row(round_index: int, split: str) -> bool:
                return round_index == 0 or (round_index == 1 and split == "train" and not draws)

            def keeps_unit(name: str) -> bool:
                """Newer verdicts of samples are kept too, whosever they are."""
                found = DRAWN.match(name) or SCORED.fullmatch(name)
                return found is None or keeps_row(int(found["round"]), found["split"])

            # A writer sets damaged parts aside: the fork draws those itself.
            Ledger(source.path, is_writer=True).fork(folder / "ledger", keeps_unit=keeps_unit, keeps_row=keeps_row)
            write_text(folder / "config.yaml", configs.dump(config))
        query = "select count(*) from samples where round = 1"
        ((count,),) = Ledger(target.path).connect().sql(query).fetchall()
    return int(count)


def _share(path: Path, target: Path) -> None:
    """Link what is only ever replaced as a whole; copy what is appended to."""
    if path.suffix == ".jsonl" and path.exists():
        shutil.copy2(path, target)
    elif path.is_dir():
        shutil.copytree(path, target, copy_function=lambda source, copy: link(Path(source), Path(copy)))
    elif path.exists():
        link(path, target)
