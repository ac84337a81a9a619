"""The figures of a round from the ledger, metrics.json as a record, and which round's model to use or export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_rft.errors import RunError
from star_rft.files import write_json
from star_rft.runs.folder import RunFolder
from star_rft.statistics import bootstrap
from star_rft.types import HeldOutScores, Interval, RoundReport

if TYPE_CHECKING:
    import duckdb


def train_figures(
    con: duckdb.DuckDBPyConnection, *, round_index: int, problems: int, group_by: str | None
) -> dict[str, Any]:
    """Return the fields of RoundReport that count this round's train samples.

    Args:
        con: A connection of `Ledger.connect`.
        round_index: The round.
        problems: How many train problems the run has; a round may sample some of them.
        group_by: Key of `meta` by which the share of unsolved problems is also given; None: no groups.
    """
    group = f"json_extract_string(any_value(meta), '$.{group_by}')" if group_by else "null"
    # One row a problem; the order fixes the resamples of the bootstrap.
    rows = con.execute(
        "select count(*)::int, (count(*) filter (status = 'correct'))::int,"
        " (count(*) filter (status = 'unknown'))::int, (count(*) filter (reason = 'truncated'))::int,"
        " (count(distinct equation_key) filter (status = 'correct'))::int, sum(tokens)::bigint,"
        f" {group} as g from traces where split = 'train' and round = ? and not hinted"
        " group by problem_id order by problem_id",
        [round_index],
    ).fetchall()
    missed = [float(correct == 0) for _, correct, *_ in rows]
    groups: dict[str, list[float]] = {}
    for row, miss in zip(rows, missed, strict=True):
        if row[6] is not None:
            groups.setdefault(str(row[6]), []).append(miss)
    samples, correct, unknown, truncated, distinct, tokens = (sum(row[i] for row in rows) for i in range(6))
    hinted, hinted_correct = _one(
        con,
        "select count(*), count(*) filter (status = 'correct') from traces"
        " where split = 'train' and round = ? and hinted",
        round_index,
    )
    invalid_steps_share = _one(
        con,
        "select avg((invalid_steps > 0)::int) from traces"
        " where split = 'train' and round = ? and status = 'correct' and not hinted",
        round_index,
    )
    return {
        "hinted": hinted,
        "hinted_correct": hinted_correct,
        "invalid_steps_share": invalid_steps_share[0],
        "problems_sampled": len(rows),
        "samples": samples,
        "correct": correct,
        "unknown": unknown,
        "truncated": truncated,
        "distinct": distinct,
        "tokens": tokens,
        "coverage": (len(missed) - sum(missed)) / problems if problems else None,
        "unsolved": int(sum(missed)),
        "unsolved_share_interval": bootstrap(missed) if missed else None,
        "unsolved_share_by_group": {name: sum(m) / len(m) for name, m in sorted(groups.items())},
    }


def selection_figures(con: duckdb.DuckDBPyConnection, *, round_index: int, problems: int) -> dict[str, Any]:
    """Return the fields of RoundReport that count what this round selected for training, and what it dropped why."""
    selected, covered = _one(
        con,
        "select count(*), count(distinct problem_id) from selection where in_round = ? and is_selected",
        round_index,
    )
    dropped = con.execute(
        "select why, count(*) from selection where in_round = ? and not is_selected group by why order by why",
        [round_index],
    ).fetchall()
    return {
        "selected": selected,
        "trained_on_share": covered / problems if problems else None,
        "dropped": dict(dropped),
    }


def frontier_figures(con: duckdb.DuckDBPyConnection, *, round_index: int) -> dict[str, Any]:
    """Return the fields of RoundReport that count classes and transitions of train problems, and flagged traces."""

    def counted(what: str, source: str) -> dict[str, int]:
        query = f"select {what}, count(*) from {source} where in_round = ? and {what} is not null group by 1 order by 1"
        return dict(con.execute(query, [round_index]).fetchall())

    traces = _one(con, "select count(distinct sample_id) from flagged where in_round = ?", round_index)
    return {
        "classes": counted('"class"', "frontier"),
        "transitions": counted("transition", "frontier"),
        "flagged": {"traces": traces[0], **counted("kind", "flagged")},
    }


def write_report(path: Path, report: RoundReport) -> None:
    """Write metrics.json: the report, with its held-out scores at the top level too, where other tools look."""
    held_out = report.held_out
    top = {
        "round": report.round,
        "pass_at_k": report.pass_at_k,
        "pass_at_1_interval": None
        if held_out is None
        else [held_out.pass_at_1_interval.low, held_out.pass_at_1_interval.high],
        "maj_at_k": held_out.maj_at_k if held_out else {},
    }
    write_json(path, {**top, **{key: value for key, value in asdict(report).items() if key != "round"}})


def read_report(path: Path) -> RoundReport:
    """Read a metrics.json; RunError where it cannot be read, or another version of star-rft wrote it."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: cannot be read as a round's metrics: {error}") from None
    known = {name: raw[name] for name in RoundReport.__dataclass_fields__ if name in raw}
    try:
        return RoundReport(
            **known
            | {
                "unsolved_share_interval": _interval(raw["unsolved_share_interval"]),
                "held_out": _scores(raw["held_out"]),
                "test": _scores(raw["test"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: was written by another version of star-rft: {error}") from None


def _interval(raw: dict[str, float] | None) -> Interval | None:
    return Interval(**raw) if raw else None


def _scores(raw: dict[str, Any] | None) -> HeldOutScores | None:
    if raw is None:
        return None
    names = ("pass_at_1_interval", "greedy", "vs_base", "vs_last")
    return HeldOutScores(**raw | {name: _interval(raw[name]) for name in names})


def _one(con: duckdb.DuckDBPyConnection, query: str, *values: Any) -> tuple[Any, ...]:
    row = con.execute(query, list(values)).fetchone()
    if row is None:
        raise RunError("the ledger answered a count with no row")
    return tuple(row)


def round_to_use(report: RoundReport) -> int:
    """Return the round whose model is used after a round: the one that the gate chose, or the round itself."""
    return report.round if report.gate is None else int(report.gate["model_round"])


def is_ended(report: RoundReport, patience: int | None) -> bool:
    """Return whether the gate ends the run after a round: `patience` evaluated rounds in a row brought no gain."""
    if report.gate is None or patience is None:
        return False
    return bool(report.gate["evidence"].get("without_gain", 0) >= patience)


def chosen_rounds(folder: RunFolder, *, number: int | None = None, every: bool = False) -> list[int]:
    """Return the rounds whose selected traces are to be exported.

    Args:
        folder: The run folder.
        number: The round; None: that of the model to use, which the last decision of the gate names, and which is the
            newest without a gate.
        every: All rounds that have a selection.

    Raises:
        RunError: There is no such round.
    """
    there = [found for found in folder.begun_rounds() if folder.selection(found).exists()]
    if not there:
        raise RunError(
            f"{folder.path}: no round has selected anything to train on yet: star-rft run {folder.path} first"
        )
    if every:
        return there
    if number is None:
        number = _of_the_model_to_use(folder, there)
    if number not in there:
        why = "round 0 is the model that the loop began with" if number == 0 else f"round {number} has no selection"
        raise RunError(f"{folder.path}: {why}, so nothing was trained on in it; --round takes {_listed(there)}")
    return [number]


def _of_the_model_to_use(folder: RunFolder, there: list[int]) -> int:
    finished = [found for found in folder.finished_rounds() if found > 0]
    report = read_report(folder.metrics(finished[-1])) if finished else None
    if report is None or report.gate is None:
        return there[-1]
    if round_to_use(report) == 0:
        raise RunError(
            f"{folder.path}: every round was rolled back, so the model to use is the one that the loop began with, and"
            f" nothing was trained on for it; name a round: --round takes {_listed(there)}"
        )
    return round_to_use(report)


def _listed(rounds: list[int]) -> str:
    return ", ".join(map(str, rounds))
