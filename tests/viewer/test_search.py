"""The address of a page says what is looked for, and nothing that is written there can break it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_rft.viewer.search import FILTERS, NAMES, TEXT_LIMIT, Query, read

FILLED = Query((("status", "correct"), ("round", "2")), "3 apples & <b>", "solved", "trace", 7)


def read_link(link: str) -> Query:
    return read(parse_qsl(urlsplit(link).query, keep_blank_values=True))


def test_a_view_is_a_link_and_a_link_the_view() -> None:
    assert read_link(FILLED.link()) == FILLED
    assert Query().link() == "/"


@given(
    st.dictionaries(st.sampled_from(NAMES), st.text(min_size=1, max_size=20), max_size=4),
    st.text(max_size=50).map(str.strip),
    st.integers(1, 10**7),
)
def test_any_value_survives_the_address(values: dict[str, str], text: str, page: int) -> None:
    query = read([*values.items(), ("q", text), ("page", str(page))])
    assert read_link(query.link()) == query
    assert query.values == values
    assert query.text == text


@pytest.mark.parametrize(
    "pairs",
    [
        [("page", "0")],
        [("page", "-1")],
        [("page", "two")],
        [("page", "9" * 400)],
        [("page", "²")],
        [("sort", "randomly")],
        [("by", "magic")],
        [("q", "   ")],
        [("status", "")],
        [("nonsense", "1")],
    ],
)
def test_what_is_not_understood_is_as_if_it_were_not_there(pairs: list[tuple[str, str]]) -> None:
    assert read(pairs) == Query()


def test_a_long_text_is_cut() -> None:
    assert len(read([("q", "x" * 10_000)]).text) == TEXT_LIMIT


def test_another_filter_begins_at_the_first_page_and_keeps_the_rest() -> None:
    changed = FILLED.choosing("status", "unknown")
    assert changed == Query((("status", "unknown"), ("round", "2")), FILLED.text, "solved", "trace", 1)
    assert changed.choosing("status", None).values == {"round": "2"}


def test_a_filter_stands_in_one_place_whatever_the_order_of_clicks() -> None:
    one = Query().choosing("round", "1").choosing("status", "correct")
    other = Query().choosing("status", "correct").choosing("round", "1")
    assert one.link() == other.link()
    assert [name for name, _ in one.chosen] == [found.name for found in FILTERS if found.name in ("status", "round")]


def test_a_problems_page_remembers_the_list_and_quotes_its_id() -> None:
    assert Query(text="x").below("a/b?c") == "/problem/a/b%3Fc?q=x"
