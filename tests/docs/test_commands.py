"""Every command, program, query and config of the documentation is run, in the order of its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, REASONS, ROOT, Block, blocks
from tests.docs.reader import LANGUAGES, Reader, answer, answers, header

ALL = [block for page in PAGES for block in blocks(page)]
# Each block that is not run is a promise that nobody keeps.
MOST_NOT_RUN = 8


@pytest.mark.full
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_to_do_can_be_done(page: Path, folder: Path) -> None:
    Reader(folder).follow(blocks(page))


QUERIES = [pair for page in PAGES for pair in answers(blocks(page))]


@pytest.mark.parametrize(("query", "shown"), QUERIES, ids=lambda block: block.where)
def test_a_query_of_a_page_has_the_columns_that_it_shows(query: Block, shown: Block, finished: Path) -> None:
    found = answer(finished, query.content)
    assert found.columns == header(shown.content)


def test_every_block_says_what_it_is() -> None:
    unknown = [f"{block.where}: {block.language or 'no language'}" for block in ALL if block.language not in LANGUAGES]
    assert not unknown, f"valid languages: {', '.join(LANGUAGES)}"


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for block in ALL if block.reason_not_run is not None]
    for block in left_out:
        print(f"not run: {block.where}: {block.reason_not_run}")
    assert [block.where for block in left_out if block.reason_not_run not in REASONS] == []
    assert len(left_out) <= MOST_NOT_RUN, [block.where for block in left_out]


def test_every_mark_is_one_that_does_something() -> None:
    known = ("file", "from", "not", "exit", "begins", "builtins")
    assert [f"{b.where}: {b.mark}" for b in ALL if b.mark and b.kind not in known] == []


def test_the_files_that_a_page_quotes_exist() -> None:
    assert [b.where for b in ALL if b.kind == "from" and not (ROOT / b.argument).is_file()] == []
