"""Contributions of the parts of a round: the difference of its model from each control, paired by held-out problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from star_rft.evaluation.by_problem import Scores, difference, scores
from star_rft.experiments.controls import METRICS, Cost, Lineage, fit_of, held_out_rows
from star_rft.files import read_json
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.statistics import bootstrap
from star_rft.types import Interval, Split

# For each control: the part of the round that it lacks, and what it has instead.
MEANINGS = {
    "random": ("verification", "as many random finished traces, right or wrong"),
    "no_dedup": ("dedup and caps", "as many random correct traces"),
    "reference_solutions": ("own traces", "reference solutions in their place"),
    "at_once": ("iteration", "one round with all samples at once"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model with its held-out scores; `vs_start` is the gain of pass@1 over the model that its training started from.

    `vs_start` is None where that model was never evaluated.
    """

    cost: Cost
    pass_at_1: Interval
    pass_at_k: Interval
    vs_start: Interval | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """Scores of the round's model minus those of a control, averaged over its seeds, problem by problem."""

    control: str
    of: str
    against: str
    seeds: tuple[int, ...]
    pass_at_1: Interval
    pass_at_k: Interval


@dataclass(frozen=True, slots=True)
class RoundContributions:
    """A round with its controls.

    `start` and `start_at_k` are pass@1 and pass@k of the model that the round's training started from; None where it
    was never evaluated. `loop` is the cost of all rounds that led to the round's model, which `at_once` is matched to.
    `compares` is whether preference training followed, in the round and its controls; costs leave it out.
    """

    run: str
    round: int
    split: Split
    problems: int
    n: int
    k: int
    batch_size: int
    compares: bool
    start: Interval | None
    start_at_k: Interval | None
    of_round: Row
    loop: Cost
    controls: tuple[Row, ...]
    contributions: tuple[Contribution, ...]


def contributions_of(
    folder: RunFolder,
    lineage: Lineage,
    *,
    round_index: int,
    names: Sequence[str],
    seeds: Sequence[int],
    run_seed: int,
    batch_size: int,
) -> RoundContributions:
    """Return the contributions of a round's parts, from the controls that `controls.make` has finished."""
    split, rows = held_out_rows(folder, round_index)
    k = max(map(int, read_report(folder.metrics(round_index)).pass_at_k))
    homes = {name: [RunFolder(folder.control(name, round_index, seed)) for seed in seeds] for name in names}
    of_round = _cost_of(folder, lineage, range(round_index, round_index + 1), [round_index], seed=run_seed)
    loop = _cost_of(folder, lineage, range(1, round_index + 1), lineage.rounds(round_index), seed=run_seed)
    begun = of_round.started_from
    return RoundContributions(
        run=str(folder.path),
        round=round_index,
        split=split,
        problems=len(rows),
        n=rows[0]["n"],
        k=k,
        batch_size=batch_size,
        compares=folder.supervised(round_index).exists(),
        start=None if begun is None else bootstrap(list(_rates(folder, begun, 1).values())),
        start_at_k=None if begun is None else bootstrap(list(_rates(folder, begun, k).values())),
        of_round=_row(folder, folder, of_round, k),
        loop=loop,
        controls=tuple(_row(folder, home, read_cost(home), k) for name in names for home in homes[name]),
        contributions=tuple(
            _contribution(folder, name, homes[name], seeds, round_index=round_index, k=k) for name in names
        ),
    )


def read_cost(home: RunFolder) -> Cost:
    """Return the cost of a finished control, from its metrics.json."""
    found = read_json(home.path / METRICS)
    return Cost(**{field.name: found[field.name] for field in fields(Cost)})


def _cost_of(folder: RunFolder, lineage: Lineage, sampled: range, trained: Sequence[int], *, seed: int) -> Cost:
    """Return the cost of the model of the last round in `sampled`: all that these rounds drew, and `trained` took."""
    query = (
        "select count(*), coalesce(sum(tokens), 0)::bigint from samples where split = 'train' and round between ? and ?"
    )
    con = Ledger(folder.path).connect()
    ((samples, tokens),) = con.execute(query, [sampled[0], sampled[-1]]).fetchall()
    round_index = sampled[-1]
    reports = [fit_of(folder, number) for number in trained]
    return Cost(
        name=f"round {round_index}" if len(sampled) == 1 else f"rounds 1-{round_index}",
        round=round_index,
        seed=seed,
        model=read_report(folder.metrics(round_index)).model,
        started_from=lineage.before(round_index) if len(sampled) == 1 else lineage.first,
        samples=samples,
        tokens=tokens,
        examples=sum(report.examples for report in reports),
        steps=sum(report.steps for report in reports),
        trained_tokens=sum(report.tokens for report in reports),
    )


def _row(folder: RunFolder, home: RunFolder, cost: Cost, k: int) -> Row:
    at_1 = _rates(home, cost.round, 1)
    begun = cost.started_from
    return Row(
        cost=cost,
        pass_at_1=bootstrap(list(at_1.values())),
        pass_at_k=bootstrap(list(_rates(home, cost.round, k).values())),
        vs_start=None if begun is None else _difference(at_1, _rates(folder, begun, 1)),
    )


def _contribution(
    folder: RunFolder, name: str, homes: Sequence[RunFolder], seeds: Sequence[int], *, round_index: int, k: int
) -> Contribution:
    def lead(at: int) -> Interval:
        return _difference(_rates(folder, round_index, at), _mean([_rates(home, round_index, at) for home in homes]))

    of, against = MEANINGS[name]
    return Contribution(name, of, against, tuple(seeds), lead(1), lead(k))


def _rates(folder: RunFolder, round_index: int, k: int) -> Scores:
    _, rows = held_out_rows(folder, round_index)
    return scores(rows, f"pass@{k}")


def _mean(several: Sequence[Scores]) -> Scores:
    return {problem: float(np.mean([rates[problem] for rates in several])) for problem in several[0]}


def _difference(after: Scores, before: Scores) -> Interval:
    found = difference(after, before)
    assert found is not None  # a control is evaluated on the round's own problems
    return found
