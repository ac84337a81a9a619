"""The columns of the viewer's index: a small number a trace for every filter, and sort orders."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from star_rft.statistics import Flags, Floats, Ints

Codes = npt.NDArray[Any]  # of the smallest unsigned integers that hold the values

OF_TRACES = ("status", "reason", "why", "round", "split", "hinted", "invalid_step")
OF_PROBLEMS = ("class", "group")


@dataclass(frozen=True, slots=True)
class CodedColumn:
    """A column of few values: `values[codes[i]]` is that of row i. The first value is None: there is none."""

    values: tuple[str | None, ...]
    codes: Codes

    def __getitem__(self, row: int) -> str | None:
        return self.values[int(self.codes[row])]

    def equals(self, value: str | None) -> Flags:
        """Return which rows have a value; none where it is no value of the column."""
        if value not in self.values:
            return np.zeros(len(self.codes), bool)
        found: Flags = self.codes == self.values.index(value)
        return found


@dataclass(frozen=True, slots=True)
class Traces:
    """The columns of all `count` traces (N), and behind them of one row a problem that was never sampled.

    `problem_N` is the problem's number, `unit_N` that of the part that holds the sample. `flags` has a row a flag, and
    `flagged` the trace that it is of. `listed[first_P[p] : first_P[p + 1]]` are the rows of problem p by round and
    trace.
    """

    count: int
    columns: Mapping[str, CodedColumn]
    problem_N: Ints
    round_N: Ints
    sample_index_N: Ints
    unit_N: Ints
    flags: CodedColumn
    flagged: Ints
    listed: Ints
    first_P: Ints

    @property
    def rows(self) -> int:
        """The number of rows, with those of problems that were never sampled."""
        return len(self.problem_N)

    def of_problem(self, number: int) -> Ints:
        """Return the rows of a problem, by round and index."""
        rows = self.listed[self.first_P[number] : self.first_P[number + 1]]
        return rows[rows < self.count]


@dataclass(frozen=True, slots=True)
class Problems:
    """The problems (P) by id, with their results over all rounds; hinted samples do not count.

    `rate_P` is the newest class's pass rate where there is one, else the share of correct samples; NaN without any.
    `solved_P` is the first round with a correct sample, -1 without.
    """

    ids: Sequence[str]
    split: CodedColumn
    samples_P: Ints
    correct_P: Ints
    traces_P: Ints
    rate_P: Floats
    solved_P: Ints

    def number(self, problem_id: str) -> int | None:
        """Return a problem's number; None for an unknown id."""
        at = bisect_left(self.ids, problem_id)
        return at if at < len(self.ids) and self.ids[at] == problem_id else None

    def order(self, sort: str) -> Ints:
        """Return the numbers of all problems in an order: hardest, traces, solved or id. Ties are broken by id."""
        numbers = np.arange(len(self.ids))
        keys: dict[str, tuple[npt.NDArray[Any], ...]] = {
            "hardest": (numbers, self.rate_P),  # NaN comes last
            "traces": (numbers, -self.traces_P),
            "solved": (numbers, self.rate_P, -self.solved_P),
            "id": (numbers,),
        }
        return np.lexsort(keys[sort])


class Coder:
    """Collects tables of traces, one after another, as small numbers."""

    def __init__(self) -> None:
        self.rows = 0
        self._codes: dict[str, dict[str | None, int]] = {name: {None: 0} for name in (*OF_TRACES, "flag")}
        self._pieces: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._codes}
        self._numbers: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("p", "round", "sample_index", "unit")}
        self._flagged: list[npt.NDArray[Any]] = []

    def add(self, table: pa.Table) -> None:
        """Take in a table with the columns of `OF_TRACES`, `p`, `trace`, `unit` and the list `kinds`."""
        for name, pieces in self._numbers.items():
            pieces.append(table[name].to_numpy().astype(np.int32))
        for name in OF_TRACES:
            self._pieces[name].append(self._coded(name, table[name].cast(pa.string())))
        kinds = table["kinds"].combine_chunks()
        self._flagged.append(pc.list_parent_indices(kinds).to_numpy() + self.rows)
        self._pieces["flag"].append(self._coded("flag", pa.chunked_array([pc.list_flatten(kinds)])))
        self.rows += table.num_rows

    def _coded(self, name: str, column: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
        """Return the codes of a column, of which new values get new ones."""
        found = column.combine_chunks().dictionary_encode()
        known = self._codes[name]
        codes = np.array([known.setdefault(value, len(known)) for value in found.dictionary.to_pylist()], np.uint32)
        places = found.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
        coded: npt.NDArray[np.uint32] = np.append(codes, np.uint32(0))[places]
        return coded

    def traces(self, problems: pa.Table) -> Traces:
        """Return all collected; `problems` has the columns split, class and group, a row a problem in order."""
        sampled = _joined(self._numbers["p"])
        unseen = np.setdiff1d(np.arange(problems.num_rows), sampled)
        problem_N = np.concatenate([sampled, unseen])
        columns = {name: self._column(name, len(unseen)) for name in OF_TRACES}
        of_split = coded(problems["split"])
        columns["split"] = _with_unseen(columns["split"], [of_split[int(p)] for p in unseen])
        for name in OF_PROBLEMS:
            of_problem = coded(problems[name])
            columns[name] = CodedColumn(of_problem.values, of_problem.codes[problem_N])
        numbers = {
            name: np.concatenate([_joined(self._numbers[name]), np.zeros(len(unseen), np.int64)])
            for name in ("round", "sample_index", "unit")
        }
        listed = np.lexsort((numbers["sample_index"], columns["hinted"].codes, numbers["round"], problem_N))
        return Traces(
            count=self.rows,
            columns=columns,
            problem_N=problem_N,
            round_N=numbers["round"],
            sample_index_N=numbers["sample_index"],
            unit_N=numbers["unit"],
            flags=self._column("flag", 0),
            flagged=_joined(self._flagged),
            listed=listed,
            first_P=np.searchsorted(problem_N[listed], np.arange(problems.num_rows + 1)),
        )

    def _column(self, name: str, more: int) -> CodedColumn:
        """Return a collected column with `more` rows added, which have no value."""
        values = tuple(self._codes[name])
        codes = np.concatenate([*self._pieces[name], np.zeros(more, np.uint32)])
        return CodedColumn(values, codes.astype(np.min_scalar_type(len(values))))


def coded(column: pa.ChunkedArray) -> CodedColumn:
    """Return a column of texts as codes."""
    coder: dict[str | None, int] = {None: 0}
    codes = np.array([coder.setdefault(value, len(coder)) for value in column.to_pylist()], np.int64)
    return CodedColumn(tuple(coder), codes.astype(np.min_scalar_type(len(coder))))


def _with_unseen(column: CodedColumn, values: Sequence[str | None]) -> CodedColumn:
    """Give the last rows of a column values of their own."""
    known = list(dict.fromkeys([*column.values, *values]))
    codes = column.codes.astype(np.min_scalar_type(len(known)))
    if values:
        codes[-len(values) :] = [known.index(value) for value in values]
    return CodedColumn(tuple(known), codes)


def _joined(pieces: Sequence[npt.NDArray[Any]]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *pieces])


def tally_problems(table: pa.Table, traces: Traces) -> Problems:
    """Count each problem's samples; `table` has problem_id, split and pass_mean in the order of their `p`."""
    count = table.num_rows
    is_own = traces.columns["hinted"].equals("no")
    is_right = is_own & traces.columns["status"].equals("correct")
    samples_P = np.bincount(traces.problem_N[is_own], minlength=count)
    correct_P = np.bincount(traces.problem_N[is_right], minlength=count)
    solved_P = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(solved_P, traces.problem_N[is_right], traces.round_N[is_right])
    pass_mean_P = table["pass_mean"].to_numpy().astype(np.float64)
    share_P = np.where(samples_P > 0, (correct_P + 0.5) / (samples_P + 1), np.nan)
    return Problems(
        ids=table["problem_id"].to_pylist(),
        split=coded(table["split"]),
        samples_P=samples_P,
        correct_P=correct_P,
        traces_P=np.bincount(traces.problem_N[: traces.count], minlength=count),
        rate_P=np.where(np.isnan(pass_mean_P), share_P, pass_mean_P),
        solved_P=np.where(correct_P > 0, solved_P, -1),
    )
