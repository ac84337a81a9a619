"""The public functions of the library; `star_rft` loads them on first use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from star_rft import config as configs
from star_rft.api.handle import Run, ToRun
from star_rft.build import check_names, settle
from star_rft.build.dry_run import bench_config
from star_rft.build.exports import export_run
from star_rft.build.problems import load_split, role_of
from star_rft.build.rows import IN_MEMORY, Data, Row, rows_of, verifier_of_problems, with_rows
from star_rft.config import Config, pairs
from star_rft.data import load
from star_rft.errors import RunError, RunFailure, UserError
from star_rft.experiments.compare import Comparison
from star_rft.experiments.fork import fork as make_fork
from star_rft.experiments.fork import fork_config
from star_rft.experiments.seeds import compare_seeds, seed_configs
from star_rft.exports.export import ExportResult
from star_rft.progress import Progress, Silent
from star_rft.runs.folder import RunFolder
from star_rft.types import HeldOutScores, Problem, Trace, digest
from verifiers.plugins import VerifierError


def run(
    config: str | Path | Row | Config,
    overrides: Iterable[str] | Row = (),
    *,
    data: Mapping[str, Data] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Return the run of a config, to be run: iterate over it, or call its `result`. What is done already is kept.

    Args:
        config: A file, a mapping, a recipe's name, a run folder, or a config that was loaded.
        overrides: `{"sample.n": 16}` or `["sample.n=16"]`.
        data: Data sets in memory, `{"train": rows, "dev": rows}`, in place of the config's sources. Rows are problems,
            or mappings with the columns that the config or a preset names. `share`, `limit` and the like of the
            source that they replace are not applied, unless `overrides` has them.
        progress: An object with the methods of `star_rft.Progress`, called as the work goes on. None: no progress.

    Returns:
        A run that has not begun.

    Raises:
        UserError: The config cannot be run. Raised here, before any work.
    """
    settled, rows = _settled(config, overrides, data)
    return Run(settled.folder, to_run=ToRun(settled, rows, progress))


def run_seeds(
    config: str | Path | Row | Config,
    seeds: Sequence[int],
    overrides: Iterable[str] | Row = (),
    *,
    own_samples: bool = False,
    data: Mapping[str, Data] | None = None,
    progress: Progress | None = None,
) -> tuple[list[Run], Comparison]:
    """Run a config once for each training seed, to the end, and compare the runs with the model that they start from.

    The runs are called NAME-seedN, and so are their folders. The same call resumes them.

    Args:
        config: As in `run`; its own `seed` is not used.
        seeds: Two or more different seeds.
        overrides: As in `run`.
        own_samples: Whether each run draws its own samples of round 1. Unless given, all runs train on the samples of
            the first, so that they differ by their training alone.
        data: As in `run`.
        progress: As in `run`; told of one run after the other.

    Returns:
        The runs, in the order of the seeds, and their comparison: its first model is the start, its second the runs,
        with intervals over problems and seeds.

    Raises:
        UserError: The config cannot be run, the seeds are not two or more different ones, or a folder holds a run that
            was begun otherwise.
        RunFailure: Something failed on the way; the same call resumes from there.
    """
    settled, rows = _settled(config, overrides, data)
    runs = seed_configs(settled, seeds, own_samples=own_samples)
    comparison = compare_seeds(runs, lambda one: Run(one.folder, to_run=ToRun(one, rows, progress)).result())
    return [Run(one.folder) for one in runs], comparison


def open_run(folder: str | Path) -> Run:
    """Return the run of a folder, to read.

    Args:
        folder: A run folder.

    Returns:
        A run that is never continued by this process.

    Raises:
        RunError: The folder is not a run folder.
    """
    if not RunFolder(Path(folder)).config.exists():
        raise RunError(f"{folder}: is not a run folder: it has no config.yaml")
    return Run(folder)


def fork(source: Run | str | Path, name: str, overrides: Iterable[str] | Row = ()) -> Run:
    """Begin another run with what one has already, and return it, to be run.

    With other settings of seed, select, train or preference, it trains on the same samples of round 1. With other
    settings of how samples are drawn it begins with the same warm start and the same evaluation of round 0. Its folder
    is a sibling of its source's, and does not need it.

    Args:
        source: The run to fork, or its folder.
        name: The name of the fork and of its folder.
        overrides: What differs from the source, as in `run`.

    Returns:
        A run that has not begun.

    Raises:
        UserError: An override that the config cannot have.
        RunError: The source has not got that far, the folder exists, or the overrides would have led to other held-out
            samples.
    """
    folder = RunFolder(source.folder if isinstance(source, Run) else Path(source))
    config = fork_config(folder, name, pairs(overrides))
    _check(config)
    make_fork(folder, config)
    return Run(config.folder, to_run=ToRun(config, {}, None))


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

    Returns:
        The folder, the files with their numbers of rows, and the number of tokens.

    Raises:
        UserError: An option that the format does not have, or nothing to write.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    if unknown := [name for name in options if name not in (*EXPORT_FLAGS, *EXPORT_OTHERS)]:
        raise UserError(f"export has no option {unknown[0]!r}; valid: {', '.join((*EXPORT_FLAGS, *EXPORT_OTHERS))}")
    for_all = {name: options.pop(name) for name in EXPORT_OTHERS if name in options}
    given = {EXPORT_FLAGS[name]: value for name, value in options.items()}
    for_format = {flag: value for flag, value in given.items() if value is not None and value is not False}
    place = None if out is None else Path(out)
    return export_run(RunFolder(folder), format, for_format, out=place, progress=Silent(), **for_all)


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
    """Measure greedy accuracy, pass@k and maj@k of a model, without training.

    The samples are kept in a run folder in `runs`, so the same call resumes.

    Args:
        model: `tiny`, `smollm2`, a folder or a hub name.
        data: A file, a hub name, a generator's name, or rows in memory.
        k: The k of pass@k.
        n: Samples a problem; the largest k unless given.
        limit: At most this many problems, the first ones.
        overrides: Any keys of a config, such as `{"verifier.name": "code"}`. Problems bring their own verifier.
        progress: As in `run`.

    Returns:
        The scores on these problems, with intervals.

    Raises:
        UserError: The model, the data or an override cannot be used.
        RunFailure: Sampling failed on the way.
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
    """Draw completions of each problem and verify them, without training. They are kept: the same call resumes.

    Args:
        model: As in `evaluate`.
        data: As in `evaluate`.
        n: Completions of each problem.
        limit: As in `evaluate`.
        overrides: As in `evaluate`.
        progress: As in `run`.

    Returns:
        The traces, problem by problem.

    Raises:
        UserError: The model, the data or an override cannot be used.
        RunFailure: Sampling failed on the way.
    """
    greedy = {"eval.greedy": False}
    given = {**greedy, **pairs(overrides)}
    ran = _bench(model, data, ks=[1], n=n, limit=limit, overrides=given, progress=progress).result()
    return list(ran.traces("test"))


def load_config(source: str | Path | Row, overrides: Iterable[str] | Row = ()) -> Config:
    """Read a config.

    Args:
        source: A file, a mapping, a recipe's name or a run folder.
        overrides: As in `run`.

    Returns:
        The config with every default filled in.

    Raises:
        UserError: A key or a value that is not valid; the text names the file, the key and what is valid.
    """
    return settle(source, pairs(overrides))


def load_problems(source: str | Path | Data | Config, *, verifier: str = "math", **options: Any) -> list[Problem]:
    """Load problems from a file, a hub name, a generator, rows in memory, or the train problems of a config.

    Args:
        source: What to read; a `.yaml` file or a loaded config gives the problems of its `data.train`.
        verifier: The verifier that will judge them; a config has its own.
        **options: Those of a source in a config: `split`, `preset`, `columns`, `limit`, `share`, ...

    Returns:
        The problems, in the order of the source.

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
    return Run(settled.folder, to_run=ToRun(settled, rows, progress))


# Options of an export: those that only some formats have, by their names on the command line, and those of all.
EXPORT_FLAGS = {
    "tool": "--for", "include": "--include", "split": "--split", "tokens": "--tokens", "pairs": "--pairs"
}  # fmt: skip
EXPORT_OTHERS = ("round_index", "all_rounds", "licence", "force")


def _settled(
    config: str | Path | Row | Config, overrides: Iterable[str] | Row, data: Mapping[str, Data] | None
) -> tuple[Config, dict[str, list[Row | Problem]]]:
    """Return a config that was checked, and the data sets in memory that take the place of its sources."""
    rows = {split: rows_of(given, name=f"data[{split!r}]") for split, given in (data or {}).items()}
    given = pairs(overrides)
    settled = settle(_source(config), {**given, **{f"data.{split}.source": IN_MEMORY for split in rows}})
    if rows:
        settled = with_rows(settled, rows, given)
    _check(settled)
    return settled, rows


def _check(config: Config) -> None:
    """Raise UserError for an engine, verifier, rule, scorer, objective or option that does not exist."""
    try:
        check_names(config)
    except VerifierError as error:
        raise UserError(str(error)) from None


def _source(config: str | Path | Row | Config) -> str | Path | Row:
    return config.model_dump(mode="json", by_alias=True) if isinstance(config, Config) else config
