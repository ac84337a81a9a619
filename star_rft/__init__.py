"""star-rft: train a language model on its own verified attempts.

>>> import star_rft
>>> for report in star_rft.run("configs/rft.yaml", {"sample.n": 16}):
...     print(report.round, report.pass_at_1)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import RunFailure, UserError
from star_rft.progress import import_tqdm
from star_rft.types import Problem, RoundReport, Sample, Trace

if TYPE_CHECKING:
    from star_rft.progress import Progress

__version__ = "0.1.0"

__all__ = ["Problem", "RoundReport", "RunFailure", "Sample", "Trace", "UserError", "run"]

import_tqdm()


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    data: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    progress: Progress | None = None,
) -> Iterator[RoundReport]:
    """Run or resume the loop of a config (a file, a mapping, a recipe's name, a run folder).

    `data` holds data sets in memory, `{"train": rows, "dev": rows}`, which take the place of the config's; rows
    are mappings with the columns that the config or a preset names. Yields a report a round, from round 0.
    Raises UserError before any work if the config cannot be run.
    """
    from star_rft.build import open_run, settle
    from star_rft.config import pairs
    from star_rft.loop import run as run_rounds

    in_memory = {f"data.{split}.source": "in memory" for split in data or {}}
    settled = settle(config, pairs(overrides) | in_memory)

    def rounds() -> Iterator[RoundReport]:
        with open_run(settled, rows=data, progress=progress) as stages:
            yield from run_rounds(stages, rounds=settled.rounds)

    return rounds()
