"""Another run on the first round's samples of one: it selects, trains and goes on otherwise, nothing is drawn twice.

What both hold is on the disk once. The fork is a run like any other; it does not need its source any more.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from star_rft import config as configs
from star_rft.config import Config
from star_rft.files import RunError, locked, whole_folder, write_text
from star_rft.folder import BEFORE_ROUNDS, RunFolder
from star_rft.ledger import Ledger
from star_rft.ledger.forking import link

# What may differ from the source, besides what may change in a run.
FREE = ("seed", "select", "train", "preference")
DRAWN = re.compile(r"r(?P<round>\d+)-(?P<split>\w+)-")
SCORED = re.compile(r"score-(?P<split>\w+)-(?P<round>\d+)")


def fork(source: RunFolder, config: Config) -> int:
    """Begin the run of `config` with the first round's samples of another; return how many those are.

    Raises RunError where the source has not selected yet, where the folder exists, and for a config that would have
    drawn other samples.
    """
    target = RunFolder(config.folder)
    if target.path.exists():
        raise RunError(f"{target.path}: exists already; give the fork another name")
    others = configs.changes(configs.load(source.config), config, besides=FREE)
    if others:
        raise RunError(
            f"{source.path}: with these settings its samples would have been others: {'; '.join(others)}. A fork may"
            f" change {', '.join(FREE[:-1])} and {FREE[-1]}"
        )
    with locked(source.path):
        if not (source.selection(1).exists() and source.metrics(0).exists()):
            raise RunError(
                f"{source.path}: its first round is not sampled and selected yet: star-rft run {source.path}"
            )
        with whole_folder(target.path) as folder:
            for path in (source.path / name for name in BEFORE_ROUNDS):
                _share(path, folder / path.name)
            _share(source.round(0), RunFolder(folder).round(0))
            for path in [*source.plans(1), source.hints(1), source.probes(1), source.balance(1)]:
                _share(path, folder / path.relative_to(source.path))
            # A writer brings an older ledger up to date and sets damaged parts aside: the fork draws those itself.
            Ledger(source.path, is_writer=True).fork(folder / "ledger", keeps_unit=_keeps_unit, keeps_row=_keeps_row)
            write_text(folder / "config.yaml", configs.dump(config))
        query = "select count(*) from samples where round = 1"
        ((count,),) = Ledger(target.path).connect().sql(query).fetchall()
    return int(count)


def _keeps_unit(name: str) -> bool:
    """Whether a unit is of the first round's samples or before; newer verdicts of samples are, whosever they are."""
    found = DRAWN.match(name) or SCORED.fullmatch(name)
    return found is None or _keeps_row(int(found["round"]), found["split"])


def _keeps_row(round: int, split: str) -> bool:
    return round == 0 or (round == 1 and split == "train")


def _share(path: Path, target: Path) -> None:
    """Link what is only ever replaced as a whole; copy what is appended to."""
    if path.suffix == ".jsonl" and path.exists():
        shutil.copy2(path, target)
    elif path.is_dir():
        shutil.copytree(path, target, copy_function=lambda source, copy: link(Path(source), Path(copy)))
    elif path.exists():
        link(path, target)
