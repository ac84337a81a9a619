"""The public functions of the library and the class `Run`; `star_rft` loads them on first use."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft import config as configs
from star_rft.build import open_run as open_stages
from star_rft.build import settle
from star_rft.build.dry_run import bench_config
from star_rft.build.exports import export_run
from star_rft.build.problems import load_split, role_of
from star_rft.config import Config, pairs
from star_rft.data import load, read_problems
from star_rft.data.load import GENERATED
from star_rft.errors import RunError, RunFailure, UserError
from star_rft.experiments import fork as forks
from star_rft.exports.export import ExportResult
from star_rft.ledger import Ledger
from star_rft.ledger.traces import traces_of
from star_rft.loop import run as run_rounds
from star_rft.progress import Progress, Silent
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import is_ended, read_report, round_to_use
from star_rft.runs.status import status_of
from star_rft.types import HeldOutScores, Problem, RoundReport, Split, Trace, digest

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

Row = Mapping[str, Any]
Data = Iterable[Row | Problem]


class Run:
    """A run: its folder, and what is in it so far. `run` and `fork` give one that is to be run, `open_run` one to read.

    Iterating over one that is to be run runs or resumes it, and yields a report a round, from round 0; `result` runs it
    to the end. Iterating over one that was opened yields the reports of its finished rounds. Everything else reads, at
    any time, also while the run goes on in another process.

    Attributes:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path, *, _to_run: _ToRun | None = None) -> None:
        self.folder = Path(folder)
        self._to_run = _to_run
        self._is_used = False

    def __iter__(self) -> Iterator[RoundReport]:
        if self._to_run is None:
            return iter(self.reports)
        self._is_used = True
        return self._to_run.rounds()

    def result(self) -> Run:
        """Run it to the end, if it is to be run, and return it.

        Raises:
            RunError: It was opened to read, and is not finished.
            RunFailure: Something failed on the way; the same call goes on from there.
        """
        if self._to_run is None and not self._status.is_over:
            raise RunError(f"{self.folder}: is not finished ({self._status}), and was opened to read: star_rft.run it")
        for _ in self:
            pass
        return self

    @property
    def config(self) -> Config:
        """The config as it was settled, with every default."""
        return configs.load(self._files.config) if self._to_run is None else self._to_run.config

    @property
    def reports(self) -> list[RoundReport]:
        """The finished rounds' reports, round 0 first."""
        return [read_report(self._files.metrics(number)) for number in self._files.finished_rounds()]

    @cached_property
    def problems(self) -> dict[Split, list[Problem]]:
        """The problems by split: train, dev, test."""
        return read_problems(self._files.problems)

    def model_to_use(self) -> Path:
        """Return the folder of the model that the gate says to use, by the rounds so far.

        Raises:
            RunError: No round is finished, or it is the base model, which is no folder of this run.
        """
        if not (reports := self.reports):
            raise RunError(f"{self.folder}: no round is finished yet")
        number = round_to_use(reports[-1])
        if number:
            return self._files.checkpoint(number)
        if self._files.warm_start.exists():
            return self._files.warm_start
        raise RunError(f"{self.folder}: the model to use is the one that the run began with: {self.config.model.name}")

    def traces(self, split: Split = "train", *, round_index: int | None = None) -> Iterator[Trace]:
        """Yield the traces of a split, problem by problem: those of one round, or of all."""
        problems = {problem.id: problem for problem in self.problems["dev" if split == "probe" else split]}
        return traces_of(self._connection(), problems, split=split, round_index=round_index)

    def sql(self, query: str, **parameters: Any) -> duckdb.DuckDBPyRelation:
        """Ask the ledger with DuckDB; the views are described in docs/ledger.md. `$name` takes a parameter."""
        found = self._connection().sql(query, params=parameters or None)
        if found is None:
            raise UserError(f"the query gives no table: {query!r}")
        return found

    def to_pandas(self, view: str = "traces") -> pd.DataFrame:
        """Return a view of the ledger as a data frame: `traces`, `selection`, `rounds`, `frontier`, ..."""
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
    def _status(self) -> Any:
        config, reports = self.config, self.reports
        patience = None if config.gate is None else config.gate.patience
        return status_of(self._files, rounds=config.rounds, is_ended=bool(reports) and is_ended(reports[-1], patience))

    def _connection(self) -> duckdb.DuckDBPyConnection:
        return Ledger(self.folder).connect()


class _ToRun:
    """A run that is to be run: its config, and data sets that are in memory."""

    def __init__(
        self, config: Config, rows: Mapping[str, Iterable[Row]], progress: Progress | None, *, rounds: int | None = None
    ) -> None:
        self.config, self._rows, self._progress = config, rows, progress
        self._count = config.rounds if rounds is None else rounds

    def rounds(self) -> Iterator[RoundReport]:
        with open_stages(self.config, rows=self._rows, progress=self._progress) as stages:
            yield from run_rounds(stages, rounds=self._count)


def run(
    config: str | Path | Row | Config,
    overrides: Iterable[str] | Row = (),
    *,
    data: Mapping[str, Data] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Return the run of a config, to be run: iterate over it, or call its `result`. It resumes what is there.

    Args:
        config: A file, a mapping, a recipe's name, a run folder, or a config that was loaded.
        overrides: `{"sample.n": 16}` or `["sample.n=16"]`.
        data: Data sets in memory, `{"train": rows, "dev": rows}`, which take the place of the config's. Rows are
            mappings with the columns that the config or a preset names, or problems.
        progress: What is told how far it is; nothing unless given.

    Raises:
        UserError: The config cannot be run. Raised here, before any work.
    """
    rows = {split: _rows(given) for split, given in (data or {}).items()}
    settled = settle(_source(config), pairs(overrides))
    if rows:
        settled = settle(_source(settled), _in_memory(rows, of=settled))
    return Run(settled.folder, _to_run=_ToRun(settled, {split: found for split, (found, _) in rows.items()}, progress))


def open_run(folder: str | Path) -> Run:
    """Return the run of a folder, to read. RunError where there is none."""
    if not RunFolder(Path(folder)).config.exists():
        raise RunError(f"{folder}: is not a run folder: it has no config.yaml")
    return Run(folder)


def fork(source: Run | str | Path, name: str, overrides: Iterable[str] | Row = ()) -> Run:
    """Begin another run with what one has already, and return it, to be run.

    Where seed, select, train or preference differ it selects and trains on the same samples; where the sampling differs
    it begins with the same warm start and the same evaluation. It lies beside its source and does not need it.

    Raises:
        RunError: The source is not that far yet, the name is taken, or the settings would draw other held-out samples.
    """
    folder = source.folder if isinstance(source, Run) else Path(source)
    target = folder.resolve().parent / name
    about = {"name": name, "run_dir": str(target), "forked_from": str(folder)}
    config = settle(folder / "config.yaml", {**pairs(overrides), **about})
    forks.fork(RunFolder(folder), config)
    return Run(target, _to_run=_ToRun(config, {}, None))


def export(
    run: Run | str | Path, format: str = "sft", *, out: str | Path | None = None, **options: Any
) -> ExportResult:
    """Write what a run trained on, with a data card, in the formats that TRL, axolotl and LLaMA-Factory read.

    Args:
        run: A run or its folder.
        format: `sft`, `dpo`, `jsonl`, `parquet` or `hub-folder`.
        out: A folder; one in the run folder unless given.
        **options: As on the command line: `tool` (its `--for`), `include`, `split`, `tokens`, `pairs`, `round_index`,
            `all_rounds`, `licence`, `force`.

    Raises:
        UserError: An option that the format does not have, or nothing to write.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    own = {name: options.pop(name) for name in ("round_index", "all_rounds", "licence", "force") if name in options}
    asked = {
        "--for" if name == "tool" else f"--{name}": value
        for name, value in options.items()
        if value not in (None, False)
    }
    place = None if out is None else Path(out)
    return export_run(RunFolder(folder), format, asked, out=place, progress=Silent(), **own)


def evaluate(
    model: str | Path,
    data: str | Data,
    *,
    k: Sequence[int] = (1, 4, 16),
    n: int | None = None,
    limit: int | None = None,
    overrides: Iterable[str] | Row = (),
    progress: Progress | None = None,
) -> HeldOutScores:
    """Measure greedy accuracy, pass@k and maj@k of a model, without training. Samples are kept: it resumes.

    Args:
        model: `tiny`, `smollm2`, a folder or a hub name.
        data: A file, a hub name, a generator's name, or rows in memory.
        k: The k of pass@k.
        n: Samples a problem; the largest k unless given.
        limit: Only the first so many problems.
        overrides: Any keys of a config, such as `{"verifier.name": "code"}`.
    """
    ran = _bench(model, data, ks=k, n=n, limit=limit, overrides=overrides, progress=progress).result()
    (report,) = ran.reports
    if report.held_out is None:
        raise RunFailure("nothing was evaluated")
    return report.held_out


def sample(
    model: str | Path,
    data: str | Data,
    *,
    n: int = 4,
    limit: int | None = None,
    overrides: Iterable[str] | Row = (),
    progress: Progress | None = None,
) -> list[Trace]:
    """Draw `n` completions of each problem and verify them, without training. Samples are kept: it resumes.

    The arguments are those of `evaluate`.
    """
    greedy = {"eval.greedy": False}
    given = {**greedy, **pairs(overrides)}
    ran = _bench(model, data, ks=[1], n=n, limit=limit, overrides=given, progress=progress).result()
    return list(ran.traces("test"))


def load_config(source: str | Path | Row, overrides: Iterable[str] | Row = ()) -> Config:
    """Read a config file, a mapping, a recipe by name, or the config of a run folder. Raises UserError."""
    return settle(source, pairs(overrides))


def load_problems(source: str | Path | Data | Config, *, verifier: str = "math", **options: Any) -> list[Problem]:
    """Load problems from a file, a hub name, a generator, rows in memory, or the train problems of a config.

    Args:
        source: What to read; a `.yaml` file or a loaded config gives the problems of its `data.train`.
        verifier: What will judge them; of a config its own.
        **options: Those of a source in a config: `split`, `preset`, `columns`, `limit`, `share`, ...

    Raises:
        UserError: A row that cannot be read, with file and line.
    """
    if isinstance(source, str | Path) and Path(source).suffix in (".yaml", ".yml"):
        source = load_config(source)
    if isinstance(source, Config):
        return load_split(source, "train", {})
    if isinstance(source, str | Path):
        return load(str(source), verifier=verifier, **{"split": role_of(str(source), "train")} | options)
    rows, columns = _rows(source)
    return load(rows, verifier=verifier, **{"columns": columns} | options)


def _bench(
    model: str | Path,
    data: str | Data,
    *,
    ks: Sequence[int],
    n: int | None,
    limit: int | None,
    overrides: Iterable[str] | Row,
    progress: Progress | None,
) -> Run:
    given, rows = pairs(overrides), dict[str, list[Row]]()
    if not isinstance(data, str):
        found = _rows(data)
        given = {**given, **_in_memory({"test": found})}
        rows = {"test": found[0]}
    name = data if isinstance(data, str) else IN_MEMORY
    settled = bench_config(str(model), name, ks=ks, n=n, limit=limit, overrides=given)
    return Run(settled.folder, _to_run=_ToRun(settled, rows, progress))


IN_MEMORY = "in memory"


def _rows(data: Data) -> tuple[list[Row], dict[str, str] | None]:
    """Return data in memory as rows, and the columns of those that were problems."""
    rows, columns = list[Row](), dict[str, str]()
    for given in data:
        if not isinstance(given, Problem):
            rows.append(given)
            continue
        rows.append({**given.meta, "prompt": given.prompt, "reference": given.reference, "solution": given.solution})
        names = ("prompt", "reference") if given.solution is None else ("prompt", "reference", "solution")
        columns |= {name: name for name in names}
    return rows, columns or None


def _in_memory(
    rows: Mapping[str, tuple[Sequence[Row], Mapping[str, str] | None]], *, of: Config | None = None
) -> dict[str, Any]:
    """Return what the config says of data in memory: with a digest, so that no run goes on with other data."""
    found: dict[str, Any] = {}
    for split, (given, columns) in rows.items():
        source = None if of is None else getattr(of.data, split, None)
        if source is not None and source.source in GENERATED:
            found[f"data.{split}.options"] = {}  # they were the generator's
        text = json.dumps(list(map(dict, given)), default=str, sort_keys=True)
        found[f"data.{split}.source"] = f"{IN_MEMORY} ({len(given):,} rows, {digest(text)})"
        if columns is not None:
            found[f"data.{split}.columns"] = dict(columns)
    return found


def _source(config: str | Path | Row | Config) -> str | Path | Row:
    return config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else config
