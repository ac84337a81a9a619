"""The public functions of the library and the class `Run`; `star_rft` loads them on first use."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft import config as configs
from star_rft.build import check_names, settle
from star_rft.build import open_run as open_stages
from star_rft.build.dry_run import bench_config
from star_rft.build.exports import export_run
from star_rft.build.models import base_model_of
from star_rft.build.problems import load_split, role_of
from star_rft.build.rows import IN_MEMORY, Data, Row, rows_of, verifier_of_problems, with_rows
from star_rft.config import Config, pairs
from star_rft.data import load, read_problems
from star_rft.errors import RunError, RunFailure, UserError
from star_rft.experiments import fork as forks
from star_rft.exports.export import ExportResult
from star_rft.ledger import Ledger
from star_rft.ledger.traces import traces_of
from star_rft.loop import run as run_rounds
from star_rft.progress import Progress, Silent
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report, round_to_use
from star_rft.runs.status import RunStatus, status_of
from star_rft.types import HeldOutScores, Problem, RoundReport, Split, Trace, digest
from verifiers.plugins import VerifierError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


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
        """Return the model that the gate says to use, by the rounds so far: a folder, or a hub name of the base model.

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
    def _status(self) -> RunStatus:
        config = self.config
        patience = None if config.gate is None else config.gate.patience
        return status_of(self._files, rounds=config.rounds, patience=patience)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        return Ledger(self.folder).connect()


class _ToRun:
    """A run that is to be run: its config, and data sets that are in memory."""

    def __init__(
        self,
        config: Config,
        rows: Mapping[str, Sequence[Row | Problem]],
        progress: Progress | None,
        *,
        rounds: int | None = None,
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
        data: Data sets in memory, `{"train": rows, "dev": rows}`, in place of the config's sources. Rows are problems,
        or
            mappings with the columns that the config or a preset names; no `share`, `limit` or the like of the source
            that they replace is applied, unless `overrides` gives it.
        progress: What is told how far it is; nothing unless given.

    Raises:
        UserError: The config cannot be run. Raised here, before any work.
    """
    rows = {split: rows_of(given, name=f"data[{split!r}]") for split, given in (data or {}).items()}
    given = pairs(overrides)
    settled = settle(_source(config), {**given, **{f"data.{split}.source": IN_MEMORY for split in rows}})
    if rows:
        settled = with_rows(settled, rows, given)
    _check(settled)
    return Run(settled.folder, _to_run=_ToRun(settled, rows, progress))


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
    _check(config)
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
    if unknown := [name for name in options if name not in (*EXPORT_FLAGS, *EXPORT_OTHERS)]:
        raise UserError(f"export has no option {unknown[0]!r}; valid: {', '.join((*EXPORT_FLAGS, *EXPORT_OTHERS))}")
    own = {name: options.pop(name) for name in EXPORT_OTHERS if name in options}
    given = {EXPORT_FLAGS[name]: value for name, value in options.items()}
    asked = {flag: value for flag, value in given.items() if value is not None and value is not False}
    place = None if out is None else Path(out)
    return export_run(RunFolder(folder), format, asked, out=place, progress=Silent(), **own)


def evaluate(
    model: str | Path,
    data: str | Path | Data,
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
        limit: At most this many problems, the first ones.
        overrides: Any keys of a config, such as `{"verifier.name": "code"}`. Problems bring their own verifier.
    """
    ran = _bench(model, data, ks=k, n=n, limit=limit, overrides=overrides, progress=progress).result()
    (report,) = ran.reports
    if report.held_out is None:
        raise RunFailure("nothing was evaluated")
    return report.held_out


def sample(
    model: str | Path,
    data: str | Path | Data,
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
        of_train = {f"data.train.{name}": value for name, value in options.items()}
        return load_split(settle(_source(source), of_train) if of_train else source, "train", {})
    if isinstance(source, str | Path):
        return load(str(source), verifier=verifier, **{"split": role_of(str(source), "train")} | options)
    rows = rows_of(source, name="source")
    problems = [row for row in rows if isinstance(row, Problem)]
    if problems and options:
        raise UserError(f"problems are taken as they are; they have no {', '.join(options)}")
    return problems or load(rows, verifier=verifier, **options)  # type: ignore[arg-type]


def _bench(
    model: str | Path,
    data: str | Path | Data,
    *,
    ks: Sequence[int],
    n: int | None,
    limit: int | None,
    overrides: Iterable[str] | Row,
    progress: Progress | None,
) -> Run:
    given, rows = pairs(overrides), dict[str, list[Row | Problem]]()
    if not isinstance(data, str | Path):
        rows = {"test": rows_of(data, name="data")}
        verifier = verifier_of_problems(rows["test"])
        given = {**({} if verifier is None else {"verifier.name": verifier}), **given}
    settled = bench_config(str(model), IN_MEMORY if rows else str(data), ks=ks, n=n, limit=limit, overrides=given)
    if rows:
        explicit = {**given, **({} if limit is None else {"data.test.limit": limit})}
        named = with_rows(settled, rows, explicit)
        name = f"bench-{digest(configs.dump(named.model_copy(update={'name': 'bench'})), size=4)}"
        settled = named.model_copy(update={"name": name})
    _check(settled)
    return Run(settled.folder, _to_run=_ToRun(settled, rows, progress))


# Options of an export by the names that the command line has for them, and those that go with every format.
EXPORT_FLAGS = {
    "tool": "--for", "include": "--include", "split": "--split", "tokens": "--tokens", "pairs": "--pairs"
}  # fmt: skip
EXPORT_OTHERS = ("round_index", "all_rounds", "licence", "force")


def _check(config: Config) -> None:
    """Raise UserError for an engine, verifier, rule, scorer or option that does not exist."""
    try:
        check_names(config)
    except VerifierError as error:
        raise UserError(str(error)) from None


def _source(config: str | Path | Row | Config) -> str | Path | Row:
    return config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else config
