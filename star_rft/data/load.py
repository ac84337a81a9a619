"""`load`: problems from any source, with ids that depend on their content only."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, cast, get_args

from star_rft.data.contamination import normalised
from star_rft.data.presets import Fields, check_options, fenced, number_text, reader
from star_rft.data.readers import (
    COMPRESSIONS,
    FORMATS,
    HUB_NAME,
    DataError,
    Row,
    Source,
    read_files,
    read_hub,
    read_mappings,
)
from star_rft.types import Problem, digest

log = logging.getLogger(__name__)


class HubSet(NamedTuple):
    """A data set of the Hugging Face hub, and the preset that reads it."""

    name: str
    config_name: str | None
    preset: str


ALIASES: Mapping[str, HubSet] = {
    "gsm8k": HubSet("openai/gsm8k", "main", "gsm8k"),
    "math": HubSet("DigitalLearningGmbH/MATH-lighteval", None, "math"),
    "svamp": HubSet("ChilleD/SVAMP", None, "svamp"),
    "mbpp": HubSet("google-research-datasets/mbpp", "full", "mbpp"),
    "humaneval": HubSet("openai/openai_humaneval", None, "humaneval"),
    "commonsenseqa": HubSet("tau/commonsense_qa", None, "commonsenseqa"),
}
WORD_PROBLEMS = "word_problems"
ADDITION = "addition"
PYTHON_TASKS = "python_tasks"
GENERATED = (WORD_PROBLEMS, ADDITION, PYTHON_TASKS)
GENERATED_DEFAULT = 1_000  # problems of a generator where no number is given
# Columns that become `meta`, and by which results can be grouped; upper and lower case are the same.
META_COLUMNS = ("steps", "digits", "level", "type", "subject", "difficulty", "category", "source")
ID_COLUMNS = ("id", "task_id", "unique_id")


def load(
    source: Source,
    *,
    verifier: str,
    split: str | None = None,
    preset: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    share: Sequence[float] | None = None,
    config_name: str | None = None,
    shuffle_seed: int | None = None,
    max_solution_chars: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Load problems.

    Duplicates, problems with equal prompt and reference, are dropped, and their number is logged. No row is skipped
    silently.

    Args:
        source: A file, a glob, a folder, a list of those, the name or alias of a hub data set, the name of a generator,
            or mappings. Files are .jsonl, .json or .parquet, also compressed.
        verifier: Name of the verifier of the problems.
        split: Split of a folder, a hub data set or a generator.
        preset: What the columns mean; None: found from the first row.
        columns: Path of the column of each field instead (`{"prompt": "question.stem", "reference": ...}`). With a
            preset: the user's column for each column that the preset reads.
        limit: Take the first problems, after the shuffle if there is one.
        share: (low, high): take the problems whose question has a hash in that part of [0, 1). Shares that do not
            overlap are disjoint splits, whatever the order of the rows; questions that differ only in case, punctuation
            or space are on one side.
        config_name: Configuration of a hub data set.
        shuffle_seed: Order the problems by a hash of this and their id; None: as they are read.
        max_solution_chars: Drop problems whose reference solution is longer or missing.
        options: Options of the preset or the generator.

    Returns:
        Problems whose id is a hash of prompt and reference. The verifier is not part of it, so stored samples can be
        judged by another verifier.

    Raises:
        DataError: Something cannot be read; the text names the file and the row.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; it must be 1 or more")
    rows, usual = _rows(source, split=split, config_name=config_name, options=options or {}, limit=limit)
    if source in GENERATED:
        options = None  # they were the generator's
    if columns is None and preset is None:
        preset = usual
    found = _problems(rows, verifier=verifier, preset=preset, columns=columns, options=options or {})
    kept = _chosen(found, share=share, max_solution_chars=max_solution_chars)
    problems = _distinct(kept, name=describe(source), at_most=limit if shuffle_seed is None else None)
    if not problems:
        raise DataError(
            f"{describe(source)}: no problem is left "
            f"(share: {share and list(share)}, max_solution_chars: {max_solution_chars})"
        )
    if shuffle_seed is not None:
        problems.sort(key=lambda problem: digest("shuffle", shuffle_seed, problem.id))
    return problems[:limit]


def split_position(prompt: str) -> float:
    """Return the hash of a question as a number in [0, 1).

    It is equal for questions that differ only in case, punctuation or space, so that a split does not separate them.
    """
    return (int(digest("share", normalised(prompt)), 16) >> 11) / 2**53


def describe(source: Source) -> str:
    """Return a source as text, for messages."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return ", ".join(map(str, source)) if _is_list_of_names(source) else "the given rows"


def _rows(
    source: Source,
    *,
    split: str | None,
    config_name: str | None,
    options: Mapping[str, Any],
    limit: int | None,
) -> tuple[Iterator[Row], str | None]:
    """Return the rows of a source, and the preset that its name implies."""
    if not isinstance(source, str | os.PathLike):
        if _is_list_of_names(source):
            _refuse("a list of files", config_name=config_name)
            return itertools.chain.from_iterable(read_files(name, split) for name in source), None
        _refuse("a Python iterable", split=split, config_name=config_name)
        return read_mappings(source), None
    name = os.fspath(source)
    if name in GENERATED:
        _refuse(name, config_name=config_name)
        generated, usual = {
            WORD_PROBLEMS: (_word_problems, "gsm8k"),
            ADDITION: (_addition, "gsm8k"),
            PYTHON_TASKS: (_python_tasks, "qa"),
        }[name]
        return generated(split, options, limit), usual
    if name in ALIASES:
        hub = ALIASES[name]
        return read_hub(hub.name, config_name or hub.config_name, split), hub.preset
    if _is_path(name):
        _refuse(f"{name}, which is on disk,", config_name=config_name)
        return read_files(source, split), None
    if HUB_NAME.fullmatch(name):
        return read_hub(name, config_name, split), None
    raise DataError(
        f"no source {name!r}: it is no file ({', '.join(FORMATS)}), no hub name (owner/name), and none of "
        f"{', '.join([*GENERATED, *ALIASES])}"
    )


def _is_list_of_names(source: Iterable[Any]) -> TypeGuard[Sequence[str | os.PathLike[str]]]:
    # A mapping also iterates over names, but is no Sequence.
    return isinstance(source, Sequence) and bool(source) and all(isinstance(s, str | os.PathLike) for s in source)


def _is_path(name: str) -> bool:
    looks_like_one = name.startswith((".", "/", "~")) or name.endswith((*FORMATS, *COMPRESSIONS))
    return looks_like_one or any(char in name for char in "*?[") or Path(name).exists()


def _refuse(owner: str, **given: str | None) -> None:
    for key, value in given.items():
        if value is not None:
            raise DataError(f"{owner} takes no {key}; it is {value!r}")


def _word_problems(split: str | None, options: Mapping[str, Any], limit: int | None) -> Iterator[Row]:
    from star_rft.data.generators.word_problems import MAX_STEPS, WordSplit, generate

    if split not in get_args(WordSplit):
        raise DataError(f"{WORD_PROBLEMS}: split is {split!r}; valid are {', '.join(get_args(WordSplit))}")
    given: dict[str, Any] = {"n": limit or GENERATED_DEFAULT, "seed": 0, "steps": (1, MAX_STEPS)}
    given |= check_options(options, given, WORD_PROBLEMS)
    try:
        low, high = given["steps"]
        items = generate(given["n"], split=cast(WordSplit, split), seed=given["seed"], steps=(low, high))
        for index, item in enumerate(items):
            values = {"question": item.question, "answer": item.answer, "steps": item.steps}
            yield Row(f"{WORD_PROBLEMS}[{split}][{index}]", values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{WORD_PROBLEMS}: options {dict(options)}: {error}") from None


def _addition(split: str | None, options: Mapping[str, Any], limit: int | None) -> Iterator[Row]:
    from star_rft.data.generators.addition import AdditionSplit, generate

    if split not in get_args(AdditionSplit):
        raise DataError(f"{ADDITION}: split is {split!r}; valid are {', '.join(get_args(AdditionSplit))}")
    given: dict[str, Any] = {"n": limit or GENERATED_DEFAULT, "seed": 0, "digits": (1, 5)}
    given |= {"hinted": 0.0, "scratchpad": True}
    given |= check_options(options, given, ADDITION)
    try:
        low, high = given.pop("digits")
        sums = generate(given.pop("n"), split=cast(AdditionSplit, split), digits=(low, high), **given)
        for index, item in enumerate(sums):
            values = {"question": item.question, "answer": item.answer, "digits": item.digits}
            yield Row(f"{ADDITION}[{split}][{index}]", values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{ADDITION}: options {dict(options)}: {error}") from None


def _python_tasks(split: str | None, options: Mapping[str, Any], limit: int | None) -> Iterator[Row]:
    """Yield the rows of tasks: all of the split, a few hundred, unless a number is given."""
    from star_rft.data.generators.python_tasks.tasks import TaskSplit, generate

    if split not in get_args(TaskSplit):
        raise DataError(f"{PYTHON_TASKS}: split is {split!r}; valid are {', '.join(get_args(TaskSplit))}")
    given: dict[str, Any] = {"n": limit, "seed": 0}
    given |= check_options(options, given, PYTHON_TASKS)
    try:
        for index, task in enumerate(generate(given["n"], split=cast(TaskSplit, split), seed=given["seed"])):
            reference = {"tests": task.tests, "entry_point": task.name}
            values = {"prompt": task.prompt, "answer": reference, "solution": fenced(task.program)}
            about = {"task_id": task.id, "level": task.level, "category": task.family}
            yield Row(f"{PYTHON_TASKS}[{split}][{index}]", {**values, **about})
    except (TypeError, ValueError) as error:
        raise DataError(f"{PYTHON_TASKS}: options {dict(options)}: {error}") from None


def _chosen(
    problems: Iterator[Problem], *, share: Sequence[float] | None, max_solution_chars: int | None
) -> Iterator[Problem]:
    if share is not None:
        if len(share) != 2 or not 0 <= share[0] < share[1] <= 1:
            raise DataError(f"share is {list(share)}; it must be [low, high] with 0 <= low < high <= 1")
        low, high = share
        problems = (p for p in problems if low <= split_position(p.prompt) < high)
    if max_solution_chars is not None:
        longest = max_solution_chars
        problems = (p for p in problems if p.solution is not None and len(p.solution) <= longest)
    return problems


def _problems(
    rows: Iterator[Row],
    *,
    verifier: str,
    preset: str | None,
    columns: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> Iterator[Problem]:
    read: Callable[[Mapping[str, Any]], Fields] | None = None
    for where, values in rows:
        try:
            if read is None:
                read = reader(values, preset=preset, columns=columns, options=options)
            yield _problem(read(values), values, verifier)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _problem(fields: Fields, values: Mapping[str, Any], verifier: str) -> Problem:
    prompt = _text("prompt", fields.prompt)
    reference = _reference(fields.reference)
    solution = None if fields.solution is None else _text("solution", fields.solution)
    meta = {**_meta(values), **fields.meta}
    return Problem(digest("problem", prompt, reference), prompt, reference, verifier, solution, meta)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"the {field} must be text, but is {type(value).__name__}: {str(value)[:60]}")
    if not value.strip():
        raise DataError(f"the {field} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"the {field} holds half a surrogate pair: {value[:60]!r}") from None
    return value


def _reference(value: Any) -> Any:
    """Return a reference as it is stored: numbers as text, which verifiers compare, and objects as JSON holds them."""
    if value is None or value == "" or value == {} or value == []:
        raise DataError("the reference is empty")
    if isinstance(value, str):
        return _text("reference", value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    try:
        # Through JSON and back: what the run stores must equal what was loaded.
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise DataError(f"the reference cannot be written as JSON: {str(value)[:60]}") from None


def _meta(values: Mapping[str, Any]) -> dict[str, Any]:
    scalars = {k.lower(): v for k, v in values.items() if isinstance(v, str | int | float | bool)}
    meta = {name: scalars[name] for name in META_COLUMNS if name in scalars}
    ids = [scalars[name] for name in ID_COLUMNS if name in scalars]
    return meta | ({"source_id": ids[0]} if ids else {})


def _distinct(problems: Iterable[Problem], *, name: str, at_most: int | None) -> list[Problem]:
    """Return the first problem of each id, at most `at_most`; log duplicates, and questions with several references."""
    kept: dict[str, Problem] = {}
    seen = 0
    for problem in problems:
        seen += 1
        kept.setdefault(problem.id, problem)
        if len(kept) == at_most:
            break
    if seen > len(kept):
        log.warning("%s: dropped %d duplicates of %d problems", name, seen - len(kept), seen)
    prompts = {problem.prompt for problem in kept.values()}
    if len(prompts) < len(kept):
        log.warning("%s: %d questions occur with more than one reference", name, len(kept) - len(prompts))
    return list(kept.values())
