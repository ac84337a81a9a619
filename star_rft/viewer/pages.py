"""The contents of the viewer's pages: rows of a list, and one problem with its traces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from star_rft.frontier.label_errors import COMPLAINING
from star_rft.report.labels import DROPS, SPLITS, plain
from star_rft.report.traces import RoundCount, ShownProblem, ShownTrace, problems_of, trace_name, traces_of
from star_rft.viewer.index import Index
from star_rft.viewer.search import Query, SearchResult

# Characters of a text that a list shows, and how many of them stand before what was searched for.
SHOWN, BEFORE = 320, 90


@dataclass(frozen=True, slots=True)
class Bit:
    """A stretch of a text in a list; `is_hit` is what was searched for."""

    text: str
    is_hit: bool = False


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem in a list. `hits` of its traces were found; `example` is from the first, where text was searched."""

    id: str
    text: Sequence[Bit]
    split: str
    class_name: str
    bars: Sequence[RoundCount]
    samples: int
    correct: int
    traces: int
    hits: int
    example: Sequence[Bit]


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A trace in a list."""

    id: str
    problem_id: str
    problem: Sequence[Bit]
    text: Sequence[Bit]
    name: str
    status: str
    reason: str
    why: str
    is_selected: bool
    answer: str | None
    answer_label: str


@dataclass(frozen=True, slots=True)
class Same:
    """A trace, and those of its round with the same text and verdict."""

    trace: ShownTrace
    others: Sequence[ShownTrace]


@dataclass(frozen=True, slots=True)
class Column:
    """A round's traces at a problem. `samples` and `correct` count those without a hint."""

    round: int
    split: str
    label: str
    models: Sequence[str]
    samples: int
    correct: int
    selected: int
    groups: Sequence[Same]


def bits(text: str, wanted: str, *, shown: int = SHOWN) -> list[Bit]:
    """Return what is shown of a text: its beginning, or a part around what was searched for, with that marked."""
    text, start = text.strip(), 0
    pieces = [text[:shown]]
    if wanted and (first := re.search(pattern := f"({re.escape(wanted)})", text, re.IGNORECASE)):
        start = max(0, first.start() - BEFORE) if first.start() > shown - len(wanted) else 0
        pieces = re.split(pattern, text[start : start + shown], flags=re.IGNORECASE)
    found = [Bit(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]
    return [Bit("... ")] * (start > 0) + found + [Bit(" ...")] * (start + shown < len(text))


def problem_rows(index: Index, query: Query, found: SearchResult, page: int) -> list[ProblemRow]:
    """Return the problems of one page of a list."""
    numbers = found.problems_on(page)
    texts = _problem_texts(index, [index.problems.ids[number] for number in numbers])
    first = {number: _first_hit(index, found, number) for number in numbers} if query.text else {}
    examples = _texts(index, [row for row in first.values() if row is not None])
    columns = index.traces.columns
    rows = []
    for number in numbers:
        problem_id = index.problems.ids[number]
        of_problem = index.traces.listed[index.traces.first_P[number]]
        class_name = columns["class"][of_problem] or ""
        _, text, answer, _ = examples.get(first.get(number), ("", "", None, ""))
        rows.append(
            ProblemRow(
                id=problem_id,
                text=bits(texts.get(problem_id, ""), query.text),
                split=SPLITS.get(index.problems.split[number] or "", ""),
                class_name=class_name,
                bars=_bars(index, number),
                samples=int(index.problems.samples_P[number]),
                correct=int(index.problems.correct_P[number]),
                traces=int(index.problems.traces_P[number]),
                hits=int(found.hits_P[number]),
                example=_where(text, answer, query.text),
            )
        )
    return rows


def trace_rows(index: Index, query: Query, found: SearchResult, page: int) -> list[TraceRow]:
    """Return the traces of one page of a list."""
    shown = found.traces_on(index, page)
    texts = _texts(index, shown)
    traces, ids = index.traces, index.problems.ids
    problem_ids = {row: ids[int(traces.problem_N[row])] for row in shown}
    problems = _problem_texts(index, list(problem_ids.values()))
    rows = []
    for row in shown:
        sample_id, text, answer, verifier = texts[row]
        value = {name: column[row] or "" for name, column in traces.columns.items()}
        rows.append(
            TraceRow(
                id=sample_id,
                problem_id=problem_ids[row],
                problem=bits(problems.get(problem_ids[row], ""), query.text, shown=200),
                text=bits(text, query.text),
                name=trace_name(int(traces.round_N[row]), int(traces.sample_index_N[row]), value["hinted"] == "yes"),
                status=value["status"],
                reason=plain(value["reason"]),
                why=_why(value["why"], value["split"]),
                is_selected=value["why"] == "selected",
                answer=answer,
                answer_label="says" if verifier in COMPLAINING else "answer",
            )
        )
    return rows


def problem_page(index: Index, problem_id: str, *, own: range | None) -> tuple[ShownProblem, list[Column]] | None:
    """Return a problem with its traces, a column a round; None for a problem that the index does not know."""
    number = index.problems.number(problem_id)
    if number is None:
        return None
    units = [int(unit) for unit in index.traces.unit_N[index.traces.of_problem(number)]]
    with index.cursor() as cursor:
        index.near(cursor, units)
        problems = problems_of(cursor, [problem_id])
        traces = traces_of(cursor, [problem_id], own=own)[problem_id]
    return (problems[problem_id], _columns(traces)) if problem_id in problems else None


def hits_of(index: Index, found: SearchResult, problem_id: str) -> set[str]:
    """Return the ids of a problem's samples that are among what was found."""
    number = index.problems.number(problem_id)
    if number is None:
        return set()
    rows = index.traces.of_problem(number)
    return set(index.ids_of([int(row) for row in rows[found.is_found_N[rows]]]).values())


def _columns(traces: Iterable[ShownTrace]) -> list[Column]:
    by_round: dict[tuple[int, str], list[ShownTrace]] = {}
    for trace in traces:
        by_round.setdefault((trace.round, trace.split), []).append(trace)
    return [_column(round_index, split, found) for (round_index, split), found in by_round.items()]


def _column(round_index: int, split: str, traces: Sequence[ShownTrace]) -> Column:
    own = [trace for trace in traces if not trace.hinted]
    return Column(
        round=round_index,
        split=split,
        label=f"Round {round_index}" + (" (probe)" if split == "probe" else ""),
        models=list(dict.fromkeys(trace.model for trace in traces)),
        samples=len(own),
        correct=sum(trace.status == "correct" for trace in own),
        selected=sum(bool(trace.trained_in) for trace in traces),
        groups=_same(traces),
    )


def _same(traces: Sequence[ShownTrace]) -> list[Same]:
    """Group traces with the same text and verdict behind the selected one of them, or the first."""
    alike: dict[tuple[Any, ...], list[ShownTrace]] = {}
    for trace in traces:
        key = (trace.keys[0], trace.status, trace.reason, trace.hinted, trace.finish_reason)
        alike.setdefault(key, []).append(trace)
    groups = []
    for found in alike.values():
        first = next((trace for trace in found if trace.trained_in), found[0])
        groups.append(Same(first, [trace for trace in found if trace is not first]))
    return groups


def _why(why: str, split: str) -> str:
    if why == "selected":
        return "selected: trained on"
    if why:
        return f"dropped: {DROPS.get(why, plain(why))}"
    return "" if split == "train" else "held out"


def _bars(index: Index, number: int) -> list[RoundCount]:
    traces = index.traces
    counted: dict[tuple[int, str], tuple[int, int]] = {}
    for row in traces.of_problem(number):
        if traces.columns["hinted"][row] == "yes":
            continue
        key = (int(traces.round_N[row]), traces.columns["split"][row] or "")
        samples, correct = counted.get(key, (0, 0))
        counted[key] = (samples + 1, correct + (traces.columns["status"][row] == "correct"))
    return [RoundCount(split, round_index, *counts) for (round_index, split), counts in sorted(counted.items())]


def _first_hit(index: Index, found: SearchResult, number: int) -> int | None:
    rows = index.traces.of_problem(number)
    hits = rows[found.is_found_N[rows]]
    return int(hits[0]) if len(hits) else None


def _where(text: str, answer: str | None, wanted: str) -> list[Bit]:
    """Return the part of a trace that holds what was searched for; nothing if only the problem holds it."""
    if not wanted or wanted.lower() not in text.lower():
        return [] if not wanted or wanted.lower() not in (answer or "").lower() else bits(answer or "", wanted)
    return bits(text, wanted)


def _problem_texts(index: Index, problem_ids: Sequence[str]) -> dict[str, str]:
    with index.cursor() as cursor:
        rows = cursor.execute(
            "select problem_id, prompt from problems where problem_id in (select unnest($1::varchar[]))",
            [list(problem_ids)],
        ).fetchall()
    return dict(rows)


def _texts(index: Index, rows: Sequence[int]) -> dict[int | None, tuple[str, str, str | None, str]]:
    """Return (sample id, text, answer, verifier) of rows of the index."""
    if not rows:
        return {}
    ids = index.ids_of(rows)
    with index.cursor() as cursor:
        index.near(cursor, [int(index.traces.unit_N[row]) for row in rows])
        found = cursor.execute(
            "select s.sample_id, s.text, v.answer, v.verifier from samples s join verdicts v using (sample_id)"
            " where s.sample_id in (select unnest($1::varchar[]))",
            [list(ids.values())],
        ).fetchall()
    by_id = {row[0]: row for row in found}
    return {row: by_id[sample_id] for row, sample_id in ids.items() if sample_id in by_id}
