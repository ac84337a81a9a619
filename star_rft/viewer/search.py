"""Queries of the viewer: read from a page's address, answered from the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import numpy as np

from star_rft.evaluation.evaluate import natural
from star_rft.report import labels
from star_rft.statistics import Flags, Ints
from star_rft.viewer.index import Index

By = Literal["problem", "trace"]
Sort = Literal["hardest", "traces", "solved", "id"]

SORTS: Final[Mapping[Sort, str]] = {
    "hardest": "hardest first",
    "traces": "most samples first",
    "solved": "newest solved first",
    "id": "by id",
}
# Longer texts are no search; the address of a page would grow beyond what browsers keep.
TEXT_LIMIT = 500
# Values of filters that mean: no value in the column, and any value.
NOTHING, ANY = "none", "any"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: its name in the address, its column of the index, its title.

    `is_list`: a trace can have several of its values.
    """

    name: str
    title: str
    is_list: bool = False


FILTERS = (
    Filter("status", "Verdict"),
    Filter("reason", "Reason of the verdict"),
    Filter("class", "Class of the problem"),
    Filter("why", "Selected or dropped"),
    Filter("round", "Round"),
    Filter("split", "Split"),
    Filter("flag", "Flagged", is_list=True),
    Filter("invalid_step", "States a false equation"),
    Filter("hinted", "Sampled with a hint"),
    Filter("group", "Group"),
)
NAMES = tuple(found.name for found in FILTERS)


@dataclass(frozen=True, slots=True)
class Query:
    """`chosen` has a value by the name of each filter that is set; `text` is searched for literally."""

    chosen: tuple[tuple[str, str], ...] = ()
    text: str = ""
    sort: Sort = "hardest"
    by: By = "problem"
    page: int = 1

    @property
    def values(self) -> dict[str, str]:
        """The chosen value by filter."""
        return dict(self.chosen)

    @property
    def is_filtered(self) -> bool:
        """Whether any filter or text narrows the view."""
        return bool(self.chosen or self.text)

    def but(self, **changes: Any) -> Query:
        """Return the query with other settings, from its first page on unless `page` is given."""
        return replace(self, **{"page": 1, **changes})

    def choosing(self, name: str, value: str | None) -> Query:
        """Return the query with another value of a filter; None takes the filter away."""
        values = self.values
        values.pop(name, None)
        return self.but(chosen=_ordered(values | ({} if value is None else {name: value})))

    def pairs(self) -> list[tuple[str, str]]:
        """Return the parts of the address, without defaults."""
        found = [("q", self.text)] if self.text else []
        found += self.chosen
        found += [("sort", self.sort)] if self.sort != "hardest" else []
        found += [("by", self.by)] if self.by != "problem" else []
        return found + ([("page", str(self.page))] if self.page > 1 else [])

    def link(self, path: str = "/") -> str:
        """Return the address of this view, or of a page below it that remembers it."""
        pairs = self.pairs()
        return f"{quote(path)}?{urlencode(pairs)}" if pairs else quote(path)

    def below(self, name: str) -> str:
        """Return the address of a problem's page, which links back to this view."""
        return self.link(f"/problem/{name}")


def read(pairs: Iterable[tuple[str, str]]) -> Query:
    """Return the query of an address's pairs; what is not understood is ignored."""
    given = dict(pairs)
    page = given.get("page", "")
    sort, by = given.get("sort"), given.get("by")
    return Query(
        chosen=_ordered({name: given[name] for name in NAMES if given.get(name)}),
        text=given.get("q", "").strip()[:TEXT_LIMIT],
        sort=next((name for name in SORTS if name == sort), "hardest"),
        by="trace" if by == "trace" else "problem",
        page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
    )


def _ordered(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, values[name]) for name in NAMES if name in values)


PAGE = 25
# A filter with more choices than these shows the first ones, and the one that is chosen.
CHOICES_SHOWN = 12
# With more cells than this, a table of which value each problem has takes more memory than sorting.
CELLS = 20_000_000
TEXT = "q"
# Filters that a problem without samples has a value of too.
OF_UNSEEN = ("split", "class", "group")


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a filter, with how many problems or traces there are of it when all other filters hold."""

    value: str
    label: str
    count: int
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a filter, of which `more` are not shown."""

    name: str
    title: str
    choices: tuple[Choice, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a query finds: the problems in its order, and the number of traces of each.

    `is_found_N` are the rows of the index, also those of problems that were never sampled.
    """

    problems: Ints
    hits_P: Ints
    is_found_N: Flags
    filters: tuple[Choices, ...]

    @property
    def traces(self) -> int:
        """The number of traces found."""
        return int(self.hits_P.sum())

    def pages(self, query: Query) -> int:
        """Return the number of pages of the list, at least 1."""
        return max(1, -(-(self.traces if query.by == "trace" else len(self.problems)) // PAGE))

    def problems_on(self, page: int) -> list[int]:
        """Return the numbers of the problems of a page."""
        return [int(number) for number in self.problems[PAGE * (page - 1) : PAGE * page]]

    def traces_on(self, index: Index, page: int) -> list[int]:
        """Return the rows of the traces of a page: problem by problem, each by round and index."""
        first, last = PAGE * (page - 1), PAGE * page
        ends = np.cumsum(self.hits_P[self.problems])
        rows: list[int] = []
        at = int(np.searchsorted(ends, first, side="right"))
        place = int(ends[at - 1]) if at else 0
        for number in self.problems[at:]:
            of_problem = index.traces.of_problem(int(number))
            found = of_problem[self.is_found_N[of_problem]]
            rows += [int(row) for row in found[max(0, first - place) : last - place]]
            place += len(found)
            if place >= last:
                break
        return rows


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a problem among those that were found: its number from 1, and its neighbours' ids."""

    number: int
    of: int
    before: str | None
    after: str | None


def find(index: Index, query: Query, *, group_title: str | None = None) -> SearchResult:
    """Answer a query. `group_title` is what the groups are called; None where the run has none."""
    passes = _passes(index, query)
    is_found_N = _all_of(index, passes)
    sampled_N = is_found_N[: index.traces.count]
    hits_P = np.bincount(index.traces.problem_N[: index.traces.count][sampled_N], minlength=len(index.problems.ids))
    is_found_P = np.zeros(len(index.problems.ids), bool)
    is_found_P[index.traces.problem_N[is_found_N]] = True
    order = index.problems.order(query.sort)
    filters = _filters(index, query, passes, is_found_N, group_title)
    return SearchResult(order[is_found_P[order]], hits_P, is_found_N, filters)


def place(index: Index, found: SearchResult, problem_id: str) -> Place | None:
    """Return the place of a problem among those that were found; None if it is not among them."""
    number = index.problems.number(problem_id)
    places = np.flatnonzero(found.problems == number) if number is not None else np.zeros(0, np.int64)
    if len(places) == 0:
        return None
    at, last = int(places[0]), len(found.problems) - 1
    before = index.problems.ids[int(found.problems[at - 1])] if at > 0 else None
    after = index.problems.ids[int(found.problems[at + 1])] if at < last else None
    return Place(at + 1, len(found.problems), before, after)


# Which rows pass


def _passes(index: Index, query: Query) -> dict[str, Flags]:
    """Return, by the name of each filter that is set, which rows pass it; the text has the name `TEXT`."""
    found = {name: _passing(index, name, value) for name, value in query.chosen}
    if query.text:
        rows, problems = index.with_text(query.text)
        has_text_P = np.zeros(len(index.problems.ids), bool)
        has_text_P[problems] = True
        found[TEXT] = has_text_P[index.traces.problem_N]
        found[TEXT][rows] = True
    return found


def _passing(index: Index, name: str, value: str) -> Flags:
    traces = index.traces
    if name == "flag":
        is_flagged = np.zeros(traces.rows, bool)
        of_kind = np.ones(len(traces.flagged), bool) if value == ANY else traces.flags.equals(value)
        is_flagged[traces.flagged[of_kind]] = True
        return is_flagged
    column = traces.columns[name]
    if value != NOTHING:
        return column.equals(value)
    is_none = column.equals(None)
    is_none[traces.count :] = False
    return is_none


def _all_of(index: Index, passes: dict[str, Flags], *, but: str = "") -> Flags:
    found = np.ones(index.traces.rows, bool)
    for name, passing in passes.items():
        if name != but:
            found &= passing
    return found


# Counts of every filter's choices


def _filters(
    index: Index, query: Query, passes: dict[str, Flags], is_found_N: Flags, group_title: str | None
) -> tuple[Choices, ...]:
    found = []
    in_all = np.flatnonzero(is_found_N)
    for one in FILTERS:
        if one.name == "group" and group_title is None:
            continue
        rows = np.flatnonzero(_all_of(index, passes, but=one.name)) if one.name in passes else in_all
        title = group_title if one.name == "group" and group_title else one.title
        counted = _counted(index, one.name, rows, is_by_trace=query.by == "trace")
        found.append(_choices(one.name, title, counted, query.values.get(one.name)))
    return tuple(found)


def _counted(index: Index, name: str, rows: Ints, *, is_by_trace: bool) -> list[tuple[str, int]]:
    """Count rows by the values of a filter: traces, or the problems that they are of."""
    traces = index.traces
    if is_by_trace or name not in OF_UNSEEN:
        rows = rows[: np.searchsorted(rows, traces.count)]
    if name == "flag":
        is_among = np.zeros(traces.rows, bool)
        is_among[rows] = True
        chosen = is_among[traces.flagged]
        codes, column, rows = traces.flags.codes[chosen], traces.flags, traces.flagged[chosen]
    else:
        column = traces.columns[name]
        codes = column.codes[rows]
    count = len(column.values)
    if is_by_trace:
        numbers = np.bincount(codes, minlength=count)
    else:
        numbers = _distinct(codes, traces.problem_N[rows], count, len(index.problems.ids))
    return [(NOTHING if value is None else value, int(n)) for value, n in zip(column.values, numbers, strict=True) if n]


def _distinct(codes: Any, problem: Ints, count: int, problems: int) -> Ints:
    """Return, of each code, how many problems it occurs with."""
    if count * problems > CELLS:
        pairs = np.unique(codes.astype(np.int64) * problems + problem)
        return np.bincount(pairs // problems, minlength=count)
    occurs = np.zeros(count * problems, bool)
    occurs[codes.astype(np.int64) * problems + problem] = True
    found: Ints = np.count_nonzero(occurs.reshape(count, problems), axis=1)
    return found


def _choices(name: str, title: str, counted: Sequence[tuple[str, int]], chosen: str | None) -> Choices:
    # Held-out problems have no class, and problems without traces no verdict.
    rows = [row for row in counted if row[0] != NOTHING or name == "why"]
    if chosen is not None and chosen not in [value for value, _ in rows]:
        rows.append((chosen, 0))
    rows.sort(key=lambda row: _ORDERS.get(name, _by_count)(*row))
    choices = [Choice(value, label(name, value), number, value == chosen) for value, number in rows]
    shown = [choice for place, choice in enumerate(choices) if place < CHOICES_SHOWN or choice.is_chosen]
    return Choices(name, title, tuple(shown), len(choices) - len(shown))


def label(name: str, value: str) -> str:
    """Return a filter's value in words."""
    if name == "why" and value in (NOTHING, "selected"):
        return "no candidate" if value == NOTHING else "selected"
    if name == "split":
        return labels.SPLITS.get(value, value)
    return labels.plain(value) if name in ("reason", "class", "why", "flag") else value


def _rank(order: Sequence[str]) -> Callable[[str, int], tuple[Any, ...]]:
    return lambda value, count: (order.index(value) if value in order else len(order), -count, value)


def _by_count(value: str, count: int) -> tuple[Any, ...]:
    return (-count, value)


def _by_value(value: str, _count: int) -> tuple[Any, ...]:
    return natural(value)


# Unknown verdicts first: they need a look.
_ORDERS: dict[str, Callable[[str, int], tuple[Any, ...]]] = {
    "status": _rank(("unknown", "incorrect", "correct")),
    "reason": _rank(("fault", "undecided", "bad_reference", "no_sandbox")),
    "class": _rank(tuple(labels.CLASSES)),
    "why": _rank(("selected",)),
    "split": _rank(tuple(labels.SPLITS)),
    "round": _by_value,
    "group": _by_value,
    "invalid_step": _rank(("yes",)),
    "hinted": _rank(("yes",)),
}
