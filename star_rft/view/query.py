"""What is looked for, as the address of a page says it: every view is a link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

By = Literal["prompt", "trace"]
Sort = Literal["hardest", "attempts", "solved", "id"]

SORTS: Final[Mapping[Sort, str]] = {
    "hardest": "hardest first",
    "attempts": "most attempts first",
    "solved": "newest solved first",
    "id": "by id",
}
# Longer texts are no search; the address of a page would grow beyond what browsers keep.
TEXT_LIMIT = 500
# What stands for the traces that a filter's column says nothing about, and for those that it says anything about.
NOTHING, ANY = "none", "any"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: its name in the address, its column of the index, its title.

    `is_list`: a trace can have several of its values.
    """

    name: str
    title: str
    is_list: bool = False

    @property
    def column(self) -> str:
        return f'"{self.name}"'


FILTERS = (
    Filter("status", "Verdict"),
    Filter("reason", "Reason of the verdict"),
    Filter("class", "Class of the prompt"),
    Filter("why", "Kept or dropped"),
    Filter("round", "Round"),
    Filter("split", "Split"),
    Filter("doubt", "Doubted", is_list=True),
    Filter("false_step", "States a false equation"),
    Filter("hinted", "Sampled with a hint"),
    Filter("group", "Group"),
)
NAMES = tuple(found.name for found in FILTERS)


@dataclass(frozen=True, slots=True)
class Query:
    """`chosen` has a value by the name of each filter that is set; `text` is what to search for, as it stands."""

    chosen: tuple[tuple[str, str], ...] = ()
    text: str = ""
    sort: Sort = "hardest"
    by: By = "prompt"
    page: int = 1

    @property
    def values(self) -> dict[str, str]:
        return dict(self.chosen)

    @property
    def is_filtered(self) -> bool:
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
        """Return what the address says, without what is so anyway."""
        found = [("q", self.text)] if self.text else []
        found += self.chosen
        found += [("sort", self.sort)] if self.sort != "hardest" else []
        found += [("by", self.by)] if self.by != "prompt" else []
        return found + ([("page", str(self.page))] if self.page > 1 else [])

    def link(self, path: str = "/") -> str:
        """Return the address of this view, or of a page below it that remembers it."""
        pairs = self.pairs()
        return f"{quote(path)}?{urlencode(pairs)}" if pairs else quote(path)

    def below(self, name: str) -> str:
        """Return the address of a prompt's page, from which one comes back to this view."""
        return self.link(f"/prompt/{name}")


def read(pairs: Iterable[tuple[str, str]]) -> Query:
    """Read a query from the pairs of an address; what is not understood is as if it were not there."""
    given = dict(pairs)
    page = given.get("page", "")
    sort, by = given.get("sort"), given.get("by")
    return Query(
        chosen=_ordered({name: given[name] for name in NAMES if given.get(name)}),
        text=given.get("q", "").strip()[:TEXT_LIMIT],
        sort=next((name for name in SORTS if name == sort), "hardest"),
        by="trace" if by == "trace" else "prompt",
        page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
    )


def _ordered(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, values[name]) for name in NAMES if name in values)
