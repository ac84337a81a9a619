"""Reads what the page shows of a run from its folder, once: records, counts, held-out scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from star_rft.errors import RunError
from star_rft.evaluation import by_problem, evaluate
from star_rft.experiments.contributions import RoundContributions, contributions_of
from star_rft.experiments.controls import NAMES as CONTROLS
from star_rft.experiments.controls import Lineage
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import read_report
from star_rft.runs.status import RunStatus, status_of
from star_rft.runs.timing import Span, read_spans
from star_rft.statistics import bootstrap_columns
from star_rft.types import Interval, RoundReport, Split

if TYPE_CHECKING:
    import duckdb

# A Sankey of more rounds than these cannot be read: the first, the last and some between are shown.
FLOW_ROUNDS = 6
# Rules in words, in the order in which most recipes apply them; others come before the duplicates.
KEPT_AFTER = {
    "quarantined": "reference not contradicted",  # before any verdict counts, as in the table of verdicts
    "unknown": "judged at all",
    "incorrect": "correct",
    "leaks_hint": "without the hint in the text",
    "truncated": "ended by themselves",
    "invalid_step": "without an invalid step",
    "duplicate": "distinct",
    "over_cap": "within the cap a problem",
}
LATE = ("duplicate", "over_cap", "not_drawn", "below_top", "rejected", "loser")


@dataclass(frozen=True, slots=True)
class Reason:
    """How many train samples of a round got a verdict for one reason."""

    round: int
    status: str
    reason: str
    samples: int


@dataclass(frozen=True, slots=True)
class Flow:
    """How many train problems were of a class after one round and of another after a later one."""

    round: int
    was: str
    later_round: int
    now: str
    problems: int


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step from the traces that a round could train on to those that it trained on."""

    what: str
    traces: int
    dropped: int
    why: str


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of a round's train samples: the mean, and the tenth and ninetieth percentile."""

    round: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the run folder says of a run.

    `tokens` are of all samples by round and kind (training, held out, with hints); `config` has its defaults filled in.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    config_text: str
    status: RunStatus
    reports: Sequence[RoundReport]
    dev: Sequence[HeldOutCurve]
    test: Sequence[HeldOutCurve]
    reasons: Sequence[Reason]
    flows: Sequence[Flow]
    funnels: Mapping[int, Sequence[FunnelStep]]
    lengths: Sequence[Length]
    tokens: Mapping[tuple[int, str], int]
    controls: RoundContributions | None
    timeline: Sequence[Span]

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.path.resolve().name

    @property
    def trained(self) -> list[RoundReport]:
        """The reports of rounds that trained: all but round 0's."""
        return [report for report in self.reports if report.round > 0]

    @property
    def unknown(self) -> int:
        """The number of unknown verdicts on train samples, over all rounds."""
        return sum(reason.samples for reason in self.reasons if reason.status == "unknown")


def gather(run_dir: Path, con: duckdb.DuckDBPyConnection) -> Facts:
    """Read a run folder, also of a run that has not finished a round; `con` is open on its ledger."""
    folder = RunFolder(run_dir)
    text = folder.config.read_text()
    config = yaml.safe_load(text)
    reports = [read_report(folder.metrics(number)) for number in folder.finished_rounds()]
    return Facts(
        folder=folder,
        config=config,
        config_text=text,
        status=status_of(folder, rounds=config["rounds"], patience=_patience(reports)),
        reports=reports,
        dev=_held_out(folder, config, reports, "dev"),
        test=_held_out(folder, config, reports, "test"),
        reasons=_reasons(con),
        flows=_flows(con),
        funnels={report.round: funnel(report) for report in reports if report.round > 0},
        lengths=_lengths(con),
        tokens=_tokens(con),
        controls=_controls(folder, config),
        timeline=read_spans(folder.timeline),
    )


def funnel(report: RoundReport) -> list[FunnelStep]:
    """Return the steps to a round's training set: all traces that it could take, then what each reason leaves."""
    left = report.selected + sum(report.dropped.values())
    known = list(KEPT_AFTER)
    middle = known.index("duplicate") - 0.5

    def place(why: str) -> float:
        return known.index(why) if why in known else len(known) if why in LATE else middle

    steps = [FunnelStep("sampled", left, 0, "")]
    for why in sorted(report.dropped, key=lambda why: (place(why), why)):
        left -= report.dropped[why]
        steps.append(FunnelStep(KEPT_AFTER.get(why, f"not {why.replace('_', ' ')}"), left, report.dropped[why], why))
    return steps


def _patience(reports: Sequence[RoundReport]) -> int | None:
    """Return the patience that the gate had when it decided last; None without a gate."""
    if not reports or reports[-1].gate is None:
        return None
    patience: int | None = reports[-1].gate["evidence"].get("patience")
    return patience


def _held_out(
    folder: RunFolder, config: Mapping[str, Any], reports: Sequence[RoundReport], split: Split
) -> list[HeldOutCurve]:
    rounds = [report.round for report in reports]
    return measured(folder, rounds, split=split, ks=config["eval"]["k"])


def _reasons(con: duckdb.DuckDBPyConnection) -> list[Reason]:
    """Return the counts, unknown verdicts first: there the verifier failed, not the model."""
    rows = con.execute(
        "select round, status, reason, count(*) from samples join verdicts using (sample_id) where split = 'train'"
        " group by round, status, reason order by list_position(['unknown', 'incorrect', 'correct'], status),"
        " sum(count(*)) over (partition by status, reason) desc, reason, round"
    ).fetchall()
    return [Reason(*row) for row in rows]


def _flows(con: duckdb.DuckDBPyConnection) -> list[Flow]:
    rounds = [number for (number,) in con.execute("select distinct in_round from frontier order by 1").fetchall()]
    shown = _spread(rounds, FLOW_ROUNDS)
    found: list[Flow] = []
    for earlier, later in pairwise(shown):
        rows = con.execute(
            'select a.in_round, a."class", b.in_round, b."class", count(*) from frontier a join frontier b'
            " using (problem_id) where a.in_round = ? and b.in_round = ? group by all order by all",
            [earlier, later],
        ).fetchall()
        found += [Flow(*row) for row in rows]
    return found


def _spread(rounds: Sequence[int], most: int) -> list[int]:
    """Return at most `most` rounds: the first, the last, and others evenly between."""
    if len(rounds) <= most:
        return list(rounds)
    return [rounds[round(i * (len(rounds) - 1) / (most - 1))] for i in range(most)]


def _lengths(con: duckdb.DuckDBPyConnection) -> list[Length]:
    rows = con.execute(
        "select round, avg(tokens), quantile_cont(tokens, 0.1), quantile_cont(tokens, 0.9) from samples"
        " where split = 'train' and not hinted group by round order by round"
    ).fetchall()
    return [Length(*row) for row in rows]


def _tokens(con: duckdb.DuckDBPyConnection) -> dict[tuple[int, str], int]:
    kinds = "case when split <> 'train' then 'held-out' when hinted then 'with hints' else 'training' end"
    rows = con.execute(f"select round, {kinds}, sum(tokens)::bigint from samples group by all order by all").fetchall()
    return {(round_index, kind): tokens for round_index, kind, tokens in rows}


def _controls(folder: RunFolder, config: Mapping[str, Any]) -> RoundContributions | None:
    """Return the newest round that has finished controls, with those of the seeds that all its controls have."""
    found: dict[int, dict[str, set[int]]] = {}
    for path in folder.path.glob("controls/*/metrics.json"):
        name, round_index, seed = path.parent.name.rsplit("-", 2)
        found.setdefault(int(round_index[1:]), {}).setdefault(name, set()).add(int(seed[1:]))
    if not found or config["train"] is None:
        return None
    newest = max(found)
    names = [name for name in CONTROLS if name in found[newest]]
    seeds = sorted(set.intersection(*(found[newest][name] for name in names)))
    if not seeds:
        return None
    lineage = Lineage(folder, config["train"]["from"], config["warm_start"] is not None)
    sizes = {"run_seed": config["seed"], "batch_size": config["train"]["batch_size"]}
    return contributions_of(folder, lineage, round_index=newest, names=names, seeds=seeds, **sizes)


def open_ledger(run_dir: Path, *, memory: str) -> duckdb.DuckDBPyConnection:
    """Open a run's ledger with a bound on DuckDB's memory. Raises RunError for what is no run folder."""
    if not (run_dir / "config.yaml").exists():
        raise RunError(f"{run_dir}: is not a run folder: it has no config.yaml")
    con = Ledger(run_dir).connect()
    con.execute(f"set memory_limit = '{memory}'")
    return con


Rows = Sequence[Mapping[str, Any]]

# Values of k that a curve is drawn from, close together where k is small: its bends are there.
CURVE_POINTS = 14
# By pass rate of the first evaluated model: upper bounds, and what such problems are called.
DIFFICULTY = (
    (0.0, "never solved before"),
    (0.25, "up to 1 in 4"),
    (0.75, "1 in 4 to 3 in 4"),
    (0.999, "more than 3 in 4"),
    (1.0, "always solved before"),
)


@dataclass(frozen=True, slots=True)
class HeldOutCurve:
    """One evaluated round on one split. `named` are pass@k and maj@k of the config's k; `curve` is pass@k by k.

    `outcomes` are (correct, n) by problem id.
    """

    round: int
    problems: int
    n: int
    named: dict[str, Interval]
    curve: dict[int, Interval]
    by_group: dict[str, float]
    outcomes: dict[str, tuple[int, int]]


def measured(folder: RunFolder, rounds: Sequence[int], *, split: Split, ks: Sequence[int]) -> list[HeldOutCurve]:
    """Return each evaluated round's figures on a split, oldest first; none where the split was not evaluated.

    `ks` are those of the config. Where problems have no group of their own, they are grouped by how often the first
    evaluated model solved them.
    """
    evaluated = [number for number in rounds if folder.eval(number).exists()]
    rows_by_round = {number: evaluate.read(folder.eval(number), split) for number in evaluated}
    rows_by_round = {number: rows for number, rows in rows_by_round.items() if rows}
    if not rows_by_round:
        return []
    first = next(iter(rows_by_round.values()))
    has_groups = any(row["group"] is not None for row in first)
    difficulty = {} if has_groups else {row["problem_id"]: _difficulty(row) for row in first}
    return [_measured(number, rows, ks, difficulty) for number, rows in rows_by_round.items()]


def is_by_difficulty(found: Sequence[HeldOutCurve]) -> bool:
    """Whether the groups are those of `DIFFICULTY`."""
    names = {name for _, name in DIFFICULTY}
    return bool(found) and found[0].by_group.keys() <= names


def crossing(later: HeldOutCurve, earlier: HeldOutCurve) -> int | None:
    """Return the smallest k that was drawn at which a round lies below an earlier one; None where it never does."""
    return by_problem.crossing(later.outcomes, earlier.outcomes)


def _measured(round_index: int, rows: Rows, ks: Sequence[int], difficulty: Mapping[str, str]) -> HeldOutCurve:
    n = min(row["n"] for row in rows)
    points = _points(n)
    drawn_ks = [k for k in sorted(ks) if k <= n]
    names = [*by_problem.measures(rows, drawn_ks), *(f"pass@{k}" for k in points)]
    columns = {name: list(by_problem.scores(rows, name).values()) for name in names}
    intervals = dict(zip(columns, bootstrap_columns(np.array(list(columns.values())).T), strict=True))
    return HeldOutCurve(
        round=round_index,
        problems=len(rows),
        n=n,
        named={name: found for name, found in intervals.items() if _is_named(name, drawn_ks)},
        curve={k: intervals[f"pass@{k}"] for k in points},
        by_group=_by_group(rows, difficulty),
        outcomes=by_problem.outcomes(rows),
    )


def _is_named(name: str, drawn_ks: Sequence[int]) -> bool:
    return name == "greedy" or int(name.partition("@")[2]) in drawn_ks


def _points(n: int) -> list[int]:
    return sorted({round(float(k)) for k in np.geomspace(1, n, min(CURVE_POINTS, n))})


def _by_group(rows: Rows, difficulty: Mapping[str, str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for row in rows:
        name = difficulty.get(row["problem_id"], row["group"])
        if name is not None:
            groups.setdefault(name, []).append(row["correct"] / row["n"])
    known = [name for _, name in DIFFICULTY]
    order = sorted(groups, key=lambda name: (known.index(name) if name in known else -1, evaluate.natural(name)))
    return {name: float(np.mean(groups[name])) for name in order}


def _difficulty(row: Mapping[str, Any]) -> str:
    rate = row["correct"] / row["n"]
    return next(name for bound, name in DIFFICULTY if rate <= bound)
