"""`Run`: the handle of a run folder, which runs what is to be run and reads what is there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.build import open_run as open_stages
from star_rft.build import settle
from star_rft.build.models import base_model_of
from star_rft.build.rows import Row
from star_rft.config import Config
from star_rft.data import read_problems
from star_rft.errors import RunError, UserError
from star_rft.ledger import Ledger
from star_rft.ledger.traces import traces_of
from star_rft.loop import run as run_rounds
from star_rft.progress import Progress
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report, round_to_use
from star_rft.runs.status import RunStatus, status_of
from star_rft.types import Problem, RoundReport, Split, Trace

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


class Run:
    """A run: its folder, and what is in it so far. `run` and `fork` give one that is to be run, `open_run` one to read.

    Iterating over one that is to be run runs or resumes it, and yields a report for each round, from round 0. Iterating
    over one that was opened yields the reports of its finished rounds. Everything else only reads the folder, at any
    time, also while another process runs it.

    Attributes:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path, *, to_run: ToRun | None = None) -> None:
        self.folder = Path(folder)
        self._to_run = to_run
        self._is_used = False

    def __iter__(self) -> Iterator[RoundReport]:
        if self._to_run is None:
            return iter(self.reports)
        self._is_used = True
        return self._to_run.rounds()

    def result(self) -> Run:
        """Run it to the end, if it is to be run.

        Returns:
            This run, finished.

        Raises:
            RunError: It was opened to read, and is not finished.
            RunFailure: Something failed on the way; the same call resumes from there.
        """
        if self._to_run is None and not self._status.is_over:
            raise RunError(f"{self.folder}: is not finished ({self._status}), and was opened to read: star_rft.run it")
        for _ in self:
            pass
        return self

    @property
    def config(self) -> Config:
        """The config of the run, with every default filled in."""
        return settle(str(self.folder)) if self._to_run is None else self._to_run.config

    @property
    def reports(self) -> list[RoundReport]:
        """The finished rounds' reports, round 0 first."""
        return [read_report(self._files.metrics(number)) for number in self._files.finished_rounds()]

    @cached_property
    def problems(self) -> dict[Split, list[Problem]]:
        """The problems by split: train, dev, test."""
        return read_problems(self._files.problems)

    def model_to_use(self) -> Path | str:
        """Return the model that the gate says to use after the rounds so far.

        Returns:
            A folder, or the hub name of the base model.

        Raises:
            RunError: No round is finished.
        """
        if not (reports := self.reports):
            raise RunError(f"{self.folder}: no round is finished yet")
        number = round_to_use(reports[-1])
        if number:
            return self._files.checkpoint(number)
        warm_start = self._files.warm_start
        return warm_start if warm_start.exists() else base_model_of(self.config, self._files)

    def traces(self, split: Split = "train", *, round_index: int | None = None) -> Iterator[Trace]:
        """Yield the traces of a split, problem by problem.

        Args:
            split: `train`, `dev`, `test`, or `probe` for the samples of temperature searches.
            round_index: Only traces of this round; of all rounds unless given.

        Yields:
            A problem with one of its samples and the newest verdict.
        """
        problems = {problem.id: problem for problem in self.problems["dev" if split == "probe" else split]}
        return traces_of(self._connection(), problems, split=split, round_index=round_index)

    def sql(self, query: str, **parameters: Any) -> duckdb.DuckDBPyRelation:
        """Query the ledger with DuckDB.

        Args:
            query: SQL over the views that docs/ledger.md describes.
            **parameters: Values for `$name` in the query.

        Returns:
            A DuckDB relation: `.fetchall()`, `.df()`, `.to_arrow_table()`.

        Raises:
            UserError: The query gives no table.
        """
        found = self._connection().sql(query, params=parameters or None)
        if found is None:
            raise UserError(f"the query gives no table: {query!r}")
        return found

    def to_pandas(self, view: str = "traces") -> pd.DataFrame:
        """Return a view of the ledger as a data frame.

        Args:
            view: `traces`, `selection`, `rounds`, `frontier`, ... (docs/ledger.md).

        Returns:
            A frame with a row for each row of the view.
        """
        frame: pd.DataFrame = self.sql(f'select * from "{view.replace(chr(34), "")}"').df()
        return frame

    def __repr__(self) -> str:
        if not self._files.config.exists():
            return f"<Run {self.folder}: not begun>"
        scores = [report.pass_at_1 for report in self.reports if report.pass_at_1 is not None]
        shown = f", pass@1 {scores[0]:.3f}" + (f" -> {scores[-1]:.3f}" if len(scores) > 1 else "") if scores else ""
        return f"<Run {self.folder}: {self._status}{shown}>"

    def __del__(self) -> None:
        if getattr(self, "_to_run", None) is not None and not self._is_used:
            message = f"nothing was run in {self.folder}: iterate over what star_rft.run returns, or call its result()"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    @property
    def _files(self) -> RunFolder:
        return RunFolder(self.folder)

    @property
    def _status(self) -> RunStatus:
        config = self.config
        patience = None if config.gate is None else config.gate.patience
        return status_of(self._files, rounds=config.rounds, patience=patience)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        return Ledger(self.folder).connect()


@dataclass(frozen=True, slots=True)
class ToRun:
    """What `Run` needs to run: the config, data sets in memory, and whom to report progress to."""

    config: Config
    rows: Mapping[str, Sequence[Row | Problem]]
    progress: Progress | None

    def rounds(self) -> Iterator[RoundReport]:
        """Run or resume, and yield the report of each round, from round 0."""
        with open_stages(self.config, rows=self.rows, progress=self.progress) as stages:
            yield from run_rounds(stages, rounds=self.config.rounds)
