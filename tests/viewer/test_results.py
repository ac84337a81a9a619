"""What a query finds, against counting by hand over the ledger itself."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from star_rft.data import write_problems
from star_rft.files import write_table
from star_rft.viewer import search
from star_rft.viewer.index import Index
from star_rft.viewer.search import Query, find, place, read
from tests.small_ledgers import commit, ledger_of, problem, sample, verdict
from tests.viewer.looked import finish_and_flag, index_of, write_run

# One row a trace, as SQL over the ledger's views says it; and one without a trace for the problem never sampled.
BY_HAND = """
with chosen as (
  select sample_id, case when bool_or(is_selected) then 'selected' else arg_min(why, in_round) end as why
  from selection group by sample_id
), flags as (select sample_id, max(kind) as flag from flagged group by sample_id),
class as (select problem_id, "class" from frontier where in_round = 2)
select p.problem_id, t.sample_id, coalesce(t.split, p.split) as split, t.status, t.reason, t.round::varchar as round,
  coalesce(why, if(t.sample_id is null, null, 'none')) as why, flag, "class",
  if(hinted, 'yes', 'no') as hinted, if(invalid_steps > 0, 'yes', 'no') as invalid_step, p.meta ->> '$.steps' as
  "group", lower(p.prompt) as problem_text, lower(t.text) || chr(31) || coalesce(lower(t.answer), '') as said
from problems p left join traces t using (problem_id) left join chosen using (sample_id)
left join flags using (sample_id) left join class using (problem_id)
"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("looked")
    ledger = write_run(folder)
    rows = ledger.connect().sql(BY_HAND).to_arrow_table().to_pylist()
    for row in rows:
        if row["sample_id"] is None:
            row |= {"hinted": None, "invalid_step": None}
    return index_of(folder, folder), rows


def is_match(row: dict[str, Any], chosen: dict[str, str], text: str) -> bool:
    if any(row[name] != value for name, value in chosen.items()):
        return False
    return not text or text in row["problem_text"] or (row["said"] is not None and text in row["said"])


def by_hand(rows: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    return [row for row in rows if is_match(row, query.values, query.text)]


VALUES = {
    "status": ["correct", "incorrect", "unknown"],
    "reason": ["mismatch", "undecided"],
    "class": ["solved", "no_survivors", "unseen"],
    "why": ["selected", "duplicate", "incorrect", "none"],
    "round": ["0", "2"],
    "split": ["train", "dev"],
    "flag": ["invalid_step"],
    "invalid_step": ["yes", "no"],
    "hinted": ["yes"],
    "group": ["1", "2", "10"],
}
EACH = [{name: value} for name, values in VALUES.items() for value in values]
PAIRS = [one | other for one, other in combinations(EACH[::2], 2) if set(one) != set(other)]


@pytest.mark.parametrize("by", ["problem", "trace"])
@pytest.mark.parametrize("text", ["", "#### 2", "apples", "what is c"])
def test_every_filter_and_pair_finds_what_counting_by_hand_finds(
    looked: tuple[Index, list[dict[str, Any]]], text: str, by: str
) -> None:
    index, rows = looked
    for chosen in [{}, *EACH, *PAIRS]:
        query = read([*chosen.items(), ("q", text), ("by", by)])
        found, expected = find(index, query, group_title="steps"), by_hand(rows, query)
        assert found.traces == sum(row["sample_id"] is not None for row in expected), chosen
        assert {index.problems.ids[number] for number in found.problems} == {row["problem_id"] for row in expected}, (
            chosen
        )


@pytest.mark.parametrize("by", ["problem", "trace"])
@pytest.mark.parametrize(
    "chosen", [{}, {"status": "correct"}, {"round": "2", "why": "duplicate"}, {"flag": "invalid_step"}]
)
def test_a_choice_shows_how_many_it_would_leave(
    looked: tuple[Index, list[dict[str, Any]]], chosen: dict[str, str], by: str
) -> None:
    index, rows = looked
    query = read([*chosen.items(), ("by", by)])
    for one in find(index, query, group_title="steps").filters:
        for choice in one.choices:
            left = by_hand(rows, query.choosing(one.name, choice.value))
            traces = {row["sample_id"] for row in left if row["sample_id"] is not None}
            expected = len(traces) if by == "trace" else len({row["problem_id"] for row in left})
            assert (choice.count, choice.is_chosen) == (expected, chosen.get(one.name) == choice.value), (one, choice)


def test_no_choice_that_would_leave_something_is_missing(looked: tuple[Index, list[dict[str, Any]]]) -> None:
    index, rows = looked
    for one in find(index, Query(by="trace"), group_title="steps").filters:
        values = {row[one.name] for row in rows if row["sample_id"] is not None} - {None}
        assert {choice.value for choice in one.choices} == values, one.name


def test_the_pages_hold_everything_found_once_and_in_order(
    looked: tuple[Index, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PAGE", 4)
    index, rows = looked
    for chosen in ({}, {"status": "incorrect"}, {"status": "bogus"}):
        query = read([*chosen.items(), ("by", "trace"), ("sort", "id")])
        found = find(index, query)
        shown = [row for page in range(1, found.pages(query) + 1) for row in found.traces_on(index, page)]
        ids = index.ids_of(shown)
        traces = index.traces
        keys = [(traces.problem_N[row], traces.round_N[row], traces.sample_index_N[row]) for row in shown]
        plain = [key for key, row in zip(keys, shown, strict=True) if traces.columns["hinted"][row] == "no"]
        assert plain == sorted(plain)
        assert sorted(ids[row] for row in shown) == sorted(
            row["sample_id"] for row in by_hand(rows, query) if row["sample_id"]
        )


def test_the_orders_of_problems(looked: tuple[Index, list[dict[str, Any]]]) -> None:
    index, _ = looked

    def ids(sort: str) -> str:
        return "".join(index.problems.ids[number] for number in find(index, read([("sort", sort)])).problems)

    assert ids("id") == "abcdhu"
    assert ids("traces") == "cabhdu"
    hardest = ids("hardest")
    assert (hardest[0], hardest[-1]) == ("b", "u")
    assert hardest.index("c") < hardest.index("a")
    # h came right in round 1, as a, c and d did; of those the harder ones come first, and b and u never did.
    assert set(ids("solved")[-2:]) == {"b", "u"}


def test_the_newest_solved_come_first(tmp_path: Path) -> None:
    pairs = [(sample("a", 0), verdict()), (sample("b", 0), verdict("incorrect"))]
    ledger = ledger_of(tmp_path, pairs)
    commit(ledger, "u1", [(sample(name, 0, round_index=2), verdict()) for name in "ab"])
    index = index_of(tmp_path, tmp_path, group_by=None)
    found = find(index, read([("sort", "solved")]))
    assert [index.problems.ids[number] for number in found.problems] == ["b", "a"]
    assert [one.name for one in found.filters if one.name == "group"] == []


def test_a_problem_knows_its_neighbours_in_the_list(looked: tuple[Index, list[dict[str, Any]]]) -> None:
    index, _ = looked
    found = find(index, read([("status", "correct"), ("sort", "id")]))
    assert [index.problems.ids[number] for number in found.problems] == ["a", "c", "d", "h"]
    first, middle = place(index, found, "a"), place(index, found, "c")
    assert first is not None
    assert middle is not None
    assert (first.number, first.of, first.before, first.after) == (1, 4, None, "c")
    assert (middle.number, middle.before, middle.after) == (2, "a", "d")
    assert place(index, found, "b") is None
    assert place(index, found, "nothing") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("äpfel", {"h"}),
        ("ÄPFEL #### 2", {"h"}),
        ("%", set()),
        ("_", set()),
        ("WHAT IS A?", {"a"}),
        ("' or 1=1 --", set()),
        ("####", set("abcdh")),
    ],
)
def test_a_text_is_found_in_any_case_and_as_it_stands(
    looked: tuple[Index, list[dict[str, Any]]], text: str, expected: set[str]
) -> None:
    index, _ = looked
    found = find(index, read([("q", text)]))
    assert {index.problems.ids[number] for number in found.problems} == expected


def test_ids_are_found_too_but_not_a_few_digits_of_one(tmp_path: Path) -> None:
    name, one = "0123456789abcdef", sample("0123456789abcdef", 0)
    index = index_of(ledger_of(tmp_path, [(one, verdict()), (sample("f", 0), verdict())]).run_dir, tmp_path)

    def traces(text: str) -> int:
        return find(index, read([("q", text)])).traces

    assert [traces(text) for text in (name, name[:8], name[:4], one.id, one.id[:6])] == [1, 1, 0, 1, 0]


def test_unknowns_come_first_and_numbers_in_their_order(looked: tuple[Index, list[dict[str, Any]]]) -> None:
    index, _ = looked
    choices = {
        one.name: [choice.value for choice in one.choices] for one in find(index, Query(), group_title="s").filters
    }
    assert choices["status"] == ["unknown", "incorrect", "correct"]
    assert choices["reason"][0] == "undecided"
    assert choices["group"] == ["1", "2", "3", "10"]
    assert choices["round"] == ["0", "1", "2"]


def test_many_choices_are_counted_and_the_chosen_one_is_shown(tmp_path: Path) -> None:
    names = [f"p{number:02d}" for number in range(30)]
    problems = [problem(name, name, meta={"steps": number}) for number, name in enumerate(names)]
    write_problems(tmp_path / "problems.parquet", {"train": problems})
    ledger_of(tmp_path, [(sample(name, 0), verdict()) for name in names])
    found = find(index_of(tmp_path, tmp_path), read([("group", "29")]), group_title="steps")
    (groups,) = (one for one in found.filters if one.name == "group")
    assert ([choice.value for choice in groups.choices][-1], groups.more) == ("29", 17)
    assert len(groups.choices) == search.CHOICES_SHOWN + 1


def test_counting_problems_is_the_same_where_there_are_too_many_values_for_a_table(
    looked: tuple[Index, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, _ = looked
    expected = find(index, Query(), group_title="steps").filters
    monkeypatch.setattr(search, "CELLS", 0)
    assert find(index, Query(), group_title="steps").filters == expected


def test_a_trace_that_one_round_kept_and_another_dropped_was_kept(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", 0), verdict())])
    finish_and_flag(ledger, 1)
    con = ledger.connect()
    dropped = con.sql("select * replace (false as is_selected, 'over_cap' as why) from selection").to_arrow_table()
    kept = con.sql("select * replace (2 as in_round) from selection").to_arrow_table()
    for round_index, table in ((1, dropped), (2, kept)):
        write_table(tmp_path / "rounds" / f"{round_index:03d}" / "selection.parquet", table)
    index = index_of(tmp_path, tmp_path)
    assert find(index, read([("why", "selected")])).traces == 1
    assert find(index, read([("why", "over_cap")])).traces == 0
