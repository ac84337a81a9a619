"""Held-out scores of several runs or rounds, and how each differs from the first, paired by problem.

Runs that differ by their seed only are one method trained several times: their scores are means over the seeds, and
intervals are over problems and training seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from star_rft.config.load import CHANGEABLE, flatten
from star_rft.errors import UserError
from star_rft.evaluation import by_problem, evaluate
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report, round_to_use
from star_rft.runs.status import RunStatus, status_of
from star_rft.statistics import Floats, bootstrap, crossed, falls_below, paired
from star_rft.types import Interval, Split

# Keys and sections that are no part of the method: what may change while a run goes on, the seed, and the date that
# chat templates are given, by default the day on which the run began.
NOT_THE_METHOD = (frozenset(CHANGEABLE) - {"rounds", "gate"}) | {"seed", "prompt.date"}
# Sections that the held-out samples depend on: where these differ, a difference of scores is not of the models alone.
OF_SAMPLES = ("prompt.", "verifier.", "eval.", "model.dtype", "sample.backend", "sample.engine_options")
# Exceptions. The date matters only to templates that print it, so `_has_other_date` looks at the prompts themselves.
NOT_OF_SAMPLES = ("prompt.date", "eval.every", "eval.k", "eval.group_by", "verifier.second", *CHANGEABLE)
# What else than the date a prompt is made of: the model has the chat template.
OF_PROMPTS = ("prompt.", "model.name", "model.gguf_file")
_ROUND = re.compile(r"(?P<run>.+?)(?:/rounds/|:)(?P<round>\d+)/?(?:checkpoint/?)?")


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """A model of a comparison: that of one round, or those of several training seeds as one.

    `scores` are by measure (`pass@1`, `maj@8`, `greedy`); `differences` are this model's minus the first one's, on the
    same problems. `below_at` and `above_at` are the smallest k at which its mean pass@k is below, or above, the first
    one's; None where there is no such k. The first model itself has no differences, and None for both.
    """

    name: str
    runs: tuple[str, ...]
    rounds: tuple[int, ...]
    seeds: tuple[int, ...]
    scores: Mapping[str, Interval]
    differences: Mapping[str, Interval] = field(default_factory=dict)
    below_at: int | None = None
    above_at: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare`.

    `problems` counts those that every model was evaluated on; `n` is the fewest samples that one of them has. `notes`
    are sentences on what else differs than the models, such as how held-out samples are drawn.
    """

    split: Split
    problems: int
    n: int
    measures: tuple[str, ...]
    models: tuple[ComparedModel, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """The evaluation of a round on a split, a row a problem.

    `named` is the number of the round if the caller gave it, None if the gate's decision did.
    """

    folder: RunFolder
    round: int
    named: int | None
    config: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]

    @property
    def method(self) -> str:
        settings = flatten(self.config).items()
        return repr(sorted(item for item in settings if not {item[0], item[0].split(".")[0]} & NOT_THE_METHOD))


def compare(runs: Sequence[Any], *, split: Split | None = None, ks: Sequence[int] | None = None) -> Comparison:
    """Compare models by the held-out samples that their runs have drawn. No model is loaded, and nothing is sampled.

    Runs that differ by their seed only count as one model; intervals are then over problems and training seeds.

    Args:
        runs: Runs or run folders: of each, the model that its gate says to use. `RUN/rounds/003` or `RUN:3` is the
            model of that round. A run folder alone means all its evaluated rounds.
        split: `dev` or `test`; unless given `dev`, or `test` where a run has no `dev`.
        ks: The k of pass@k and maj@k; unless given those of the first run's config.

    Returns:
        The models with their scores, and how each differs from the first, problem by problem.

    Raises:
        UserError: Something is not a run or was not evaluated, all of it is one model, a k is larger than the number
            of samples, or there is no problem that all were evaluated on.
    """
    if isinstance(runs, str | Path):
        raise UserError(f"compare takes a list of runs, not one: [{str(runs)!r}]")
    if ks is not None and (not ks or min(ks) < 1):
        raise UserError(f"ks must be whole numbers from 1 on, not {list(ks)}")
    places = [str(getattr(run, "folder", run)) for run in runs]
    chosen = [found for text in places for found in _chosen(text, is_alone=len(places) == 1)]
    if len(chosen) < 2:
        raise UserError("there is one model only: name two runs, or one run of which two rounds were evaluated")
    split = split or common_split([(folder, number) for folder, number, _ in chosen])
    evaluated = [_read(folder, number, named, split) for folder, number, named in chosen]
    groups = _by_method(evaluated)
    shared = _shared_problems(evaluated)
    kept = [[_only(one, shared) for one in group] for group in groups]
    first = kept[0][0]
    ks_wanted = first.config["eval"]["k"] if ks is None else ks
    n = min(row["n"] for group in kept for one in group for row in one.rows)
    if ks is not None and max(ks) > n:
        raise UserError(f"pass@{max(ks)} needs {max(ks)} samples a problem, and some have {n}")
    possible = [by_problem.measures(one.rows, ks_wanted) for group in kept for one in group]
    measures = tuple(name for name in possible[0] if all(name in found for found in possible))
    return Comparison(
        split=split,
        problems=len(shared),
        n=n,
        measures=measures,
        models=tuple(_compared(group, kept[0], measures, names=_names(kept)) for group in kept),
        notes=tuple(_notes(evaluated, shared)),
    )


# Which rounds


def _chosen(text: str, *, is_alone: bool) -> Iterator[tuple[RunFolder, int, int | None]]:
    path, number = Path(text), None
    if not (path / "config.yaml").exists() and (found := _ROUND.fullmatch(text)):
        path, number = Path(found["run"]), int(found["round"])
    folder = RunFolder(path)
    if not folder.config.exists():
        raise UserError(f"{text}: is not a run folder: it has no config.yaml; a round is RUN/rounds/003 or RUN:3")
    finished = folder.finished_rounds()
    evaluated = [one for one in finished if folder.eval(one).exists()]
    if not evaluated:
        raise UserError(f"{path}: no round is evaluated yet: star-rft run {path}")
    if number is None and is_alone:
        yield from ((folder, one, one) for one in evaluated)
        return
    used = round_to_use(read_report(folder.metrics(finished[-1]))) if number is None else number
    if used not in evaluated:
        raise UserError(f"{path}: round {used} was not evaluated; evaluated are {', '.join(map(str, evaluated))}")
    yield folder, used, number


def common_split(rounds: Sequence[tuple[RunFolder, int]]) -> Split:
    """Return the split that rounds are compared on: dev, or test where a round was not evaluated on dev."""
    return "dev" if all(evaluate.read(folder.eval(number), "dev") for folder, number in rounds) else "test"


def _read(folder: RunFolder, number: int, named: int | None, split: Split) -> _Evaluation:
    rows = evaluate.read(folder.eval(number), split)
    if not rows:
        raise UserError(f"{folder.path}: round {number} has no held-out samples of data.{split}")
    return _Evaluation(folder, number, named, yaml.safe_load(folder.config.read_text()), rows)


def _by_method(evaluated: Sequence[_Evaluation]) -> list[list[_Evaluation]]:
    """Group evaluations whose runs differ by their seed only: of the same round, or of that which each gate chose."""
    groups: list[list[_Evaluation]] = []
    for one in evaluated:
        for group in groups:
            seeds = {other.config["seed"] for other in group}
            is_same = (one.method, one.named) == (group[0].method, group[0].named)
            if is_same and one.config["seed"] not in seeds:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _shared_problems(evaluated: Sequence[_Evaluation]) -> Set[str]:
    ids = [{row["problem_id"] for row in one.rows} for one in evaluated]
    shared = set.intersection(*ids)
    if not shared:
        first, other = evaluated[0], next(one for one, found in zip(evaluated, ids, strict=True) if not found & ids[0])
        raise UserError(f"{first.folder.path} and {other.folder.path} have no held-out problem in common")
    return shared


def _only(one: _Evaluation, problems: Set[str]) -> _Evaluation:
    rows = sorted((row for row in one.rows if row["problem_id"] in problems), key=lambda row: str(row["problem_id"]))
    return replace(one, rows=rows)


# Scores and differences


def _compared(
    group: Sequence[_Evaluation], first: Sequence[_Evaluation], measures: Sequence[str], *, names: Mapping[int, str]
) -> ComparedModel:
    is_first = group is first
    group_S_P, first_S_P = ({name: _scores(some, name) for name in measures} for some in (group, first))
    return ComparedModel(
        name=names[id(group)],
        runs=tuple(str(one.folder.path) for one in group),
        rounds=tuple(one.round for one in group),
        seeds=tuple(one.config["seed"] for one in group),
        scores={name: _mean(group_S_P[name]) for name in measures},
        differences={} if is_first else {name: _difference(group_S_P[name], first_S_P[name]) for name in measures},
        below_at=None if is_first else _below_at(group, first),
        above_at=None if is_first else _below_at(first, group),
    )


def _scores(group: Sequence[_Evaluation], measure: str) -> Floats:
    """Return scores [S, P] of S seeds and P problems, in the same order for each seed."""
    return np.array([list(by_problem.scores(one.rows, measure).values()) for one in group])


def _mean(scores_S_P: Floats) -> Interval:
    nothing_S_P = np.zeros((1, scores_S_P.shape[1]))
    return bootstrap(scores_S_P[0]) if len(scores_S_P) == 1 else crossed(scores_S_P, nothing_S_P)


def _difference(after_S_P: Floats, before_S_P: Floats) -> Interval:
    """Return the mean difference, with an interval over problems, and over training seeds where there are several."""
    if len(after_S_P) == len(before_S_P) == 1:
        return paired(after_S_P[0], before_S_P[0])
    return crossed(after_S_P, before_S_P)


def _below_at(group: Sequence[_Evaluation], other: Sequence[_Evaluation]) -> int | None:
    """Return the smallest k at which the mean over problems and seeds is below another model's."""
    after, before = ([o for one in some for o in by_problem.outcomes(one.rows).values()] for some in (group, other))
    largest = min(n for _, n in (*after, *before))
    return falls_below(after * len(other), before * len(group), largest=largest)  # as many terms on both sides


def _names(groups: Sequence[Sequence[_Evaluation]]) -> dict[int, str]:
    """Return a short name of each group that no other has: the run, with its round where that tells two apart."""
    runs = [one.folder.path for group in groups for one in group]
    shown = {path: path.name for path in runs}
    if len(set(shown.values())) < len(set(runs)):
        shown = {path: str(path) for path in runs}
    names: dict[int, str] = {}
    for group in groups:
        path, rounds = group[0].folder.path, {one.round for one in group}
        name = shown[path]
        if len(set(runs)) == 1:
            name = f"round {group[0].round}"
        elif runs.count(path) > 1 and len(rounds) == 1:
            name = f"{name}, round {group[0].round}"
        name = name if len(group) == 1 else f"{name} ({len(group)} seeds)"
        taken = list(names.values())
        names[id(group)] = f"{name}, again" if name in taken else name
    return names


def _notes(evaluated: Sequence[_Evaluation], shared: Set[str]) -> Iterator[str]:
    """Yield a sentence for each difference that is not one of the models."""
    most = max(len(one.rows) for one in evaluated)
    if len(shared) < most:
        yield f"only the {len(shared):,} problems that all were asked count, of up to {most:,}"
    for one in evaluated:
        if one.named is None and not (status := _status(one)).is_over:
            yield f"{one.folder.path} is not finished ({status}); its model is that of round {one.round}"
    first = evaluated[0]
    for one in evaluated[1:]:
        was, now = _of_samples(first.config), _of_samples(one.config)
        if _has_other_date(first, one, shared):
            was, now = ({**found, **_date(it.config)} for found, it in ((was, first), (now, one)))
        keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
        if differing := [f"{key} {was.get(key)!r} and {now.get(key)!r}" for key in keys]:
            yield (
                f"{first.folder.path} and {one.folder.path} draw held-out samples differently, which is part of the"
                f" difference: {'; '.join(differing)}"
            )
            return


def _has_other_date(first: _Evaluation, one: _Evaluation, shared: Set[str]) -> bool:
    """Whether two runs' prompts differ because of `prompt.date`.

    A chat template that prints no date gives equal prompts on all days. Where the model or another setting of the
    prompt differs, so do the prompts, and nothing here tells whether the date is in them: then the answer is False.
    """
    if _date(first.config) == _date(one.config):
        return False
    was, now = ({k: v for k, v in flatten(it.config).items() if k.startswith(OF_PROMPTS)} for it in (first, one))
    if was | {"prompt.date": None} != now | {"prompt.date": None}:
        return False
    hashes, others = _prompt_hashes(first), _prompt_hashes(one)
    return any(hashes[problem] != others[problem] for problem in shared & hashes.keys() & others.keys())


def _date(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt.date": flatten(config).get("prompt.date")}


def _prompt_hashes(one: _Evaluation) -> dict[str, str]:
    """Return the hash of the prompt that each problem was sampled with; empty if the ledger has no such samples."""
    query = "select problem_id, any_value(prompt_sha) from samples where split = ? and round = ? group by problem_id"
    con = Ledger(one.folder.path).connect()
    return dict(con.execute(query, [one.rows[0]["split"], one.round]).fetchall())


def _status(one: _Evaluation) -> RunStatus:
    patience = (one.config.get("gate") or {}).get("patience")
    return status_of(one.folder, rounds=one.config["rounds"], patience=patience)


def _of_samples(config: Mapping[str, Any]) -> dict[str, Any]:
    found = flatten(config)
    keys = [key for key in found if key.startswith(OF_SAMPLES) and not key.startswith(NOT_OF_SAMPLES)]
    return {key: found[key] for key in keys}
