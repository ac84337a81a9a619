"""The viewer in a real browser: no complaint, no overflow, contrast; search, filters and keys that work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from star_rft.data import write_problems
from tests.browser import NARROW, WIDE, faint_texts, opened, overflow
from tests.small_ledgers import commit, ledger_of, problem, sample, verdict
from tests.viewer.looked import HOSTILE_PATHS, viewed, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

pytestmark = pytest.mark.full

PATHS = ["/", "/?by=trace&status=incorrect&q=%23", "/?q=zzz", "/problem/c?status=incorrect", "/problem/u"]


@pytest.fixture(scope="module")
def of_finished(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer of a run that the loop itself has made."""
    with viewed(finished, tmp_path_factory.mktemp("scratch")) as (url, _):
        yield url


def open_all(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_complains_of_nothing_fits_and_can_be_read(
    chromium: Browser, address: str, path: str, size: tuple[int, int], is_dark: bool
) -> None:
    with opened(chromium, address + path, size=size, is_dark=is_dark) as (page, complaints):
        open_all(page)
        assert overflow(page) == 0
        assert faint_texts(page) == []
        assert complaints.all == []


def test_a_real_run_is_listed_searched_and_opened(chromium: Browser, of_finished: str) -> None:
    with opened(chromium, of_finished) as (page, complaints):
        assert page.locator(".row").count() == 25
        assert "26 problems" in page.inner_text(".page-head")
        page.locator(".filters a", has_text="held out (dev)").click()
        page.wait_for_url("**/?split=dev")
        assert page.locator(".row").count() == 10
        page.locator("#q").fill("how many")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=how+many&split=dev*")
        assert page.locator("mark.hit").count() >= page.locator(".row").count() > 5
        page.locator(".row a.open").first.click()
        page.wait_for_url("**/problem/**")
        assert [heading.inner_text() for heading in page.locator(".round h3").all()] == [
            "Round 0",
            "Round 1",
            "Round 2",
        ]
        assert page.locator("article.trace").count() == 15
        assert complaints.all == []


def test_columns_stand_side_by_side_where_there_is_room_and_below_each_other_where_not(
    chromium: Browser, address: str
) -> None:
    def corners(size: tuple[int, int]) -> list[dict[str, float]]:
        with opened(chromium, f"{address}/problem/c", size=size) as (page, _):
            return [column.bounding_box() for column in page.locator("section.round").all()]  # type: ignore[misc]

    left, right = corners(WIDE)
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    first, second = corners(NARROW)
    assert first["x"] == second["x"]
    assert first["y"] + first["height"] <= second["y"]


def test_many_rounds_scroll_in_their_own_frame(chromium: Browser, tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path / "run", [(sample("a", 0), verdict())])
    for round_index in range(2, 12):
        commit(ledger, f"u{round_index}", [(sample("a", 0, round_index=round_index), verdict())])
    with viewed(tmp_path / "run", tmp_path / "scratch") as (url, _), opened(chromium, f"{url}/problem/a") as (page, _):
        assert overflow(page) == 0
        frame = page.locator(".rounds")
        assert frame.evaluate("element => element.scrollWidth > element.clientWidth")
        assert frame.get_attribute("tabindex") == "0"


def test_filters_are_behind_a_button_on_a_narrow_screen(chromium: Browser, address: str) -> None:
    with opened(chromium, address, size=NARROW) as (page, _):
        assert not page.locator(".filters").is_visible()
        page.keyboard.press("Tab")
        page.locator("#show-filters").focus()
        page.keyboard.press("Space")
        assert page.locator(".filters").is_visible()
        assert overflow(page) == 0
        page.locator(".filters a", has_text="incorrect").first.click()
        page.wait_for_url("**/?status=incorrect")


def test_choosing_an_order_is_enough_with_script_and_without_there_is_a_button(chromium: Browser, address: str) -> None:
    with opened(chromium, address) as (page, _):
        page.select_option("#sort", "id")
        page.wait_for_url("**sort=id*")
        assert page.locator(".row a.open").first.inner_text() == "What is a?"
    with opened(chromium, address, has_script=False) as (page, _):
        page.select_option("#sort", "id")
        page.fill("#q", "what is")
        page.locator("form.search button").click()
        assert "sort=id" in page.url
        assert page.locator(".row").count() == 5
        page.locator(".row a.open").first.click()
        assert "/problem/a" in page.url
        assert not page.locator("#open-help").is_visible()


def test_keys_move_search_and_help(chromium: Browser, address: str) -> None:
    with opened(chromium, f"{address}/?sort=id") as (page, complaints):
        focused = "document.activeElement.textContent"
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate(focused) == "What is b?"
        page.keyboard.press("k")
        assert page.evaluate(focused) == "What is a?"
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("j")
        page.keyboard.press("Escape")
        assert not page.locator("#help").is_visible()
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "q"
        page.keyboard.type("j/k?")
        assert page.input_value("#q") == "j/k?"
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/problem/a?sort=id")
        page.keyboard.press("j")
        page.wait_for_url("**/problem/b?sort=id")
        page.keyboard.press("k")
        page.wait_for_url("**/problem/a?sort=id")
        page.keyboard.press("u")
        page.wait_for_url("**/?sort=id")
        assert complaints.all == []


def test_what_has_the_focus_can_be_seen(chromium: Browser, address: str) -> None:
    with opened(chromium, address) as (page, _):
        for _ in range(8):
            page.keyboard.press("Tab")
            style = page.evaluate(
                "(({outlineStyle: s, outlineWidth: w}) => [s, w])(getComputedStyle(document.activeElement))"
            )
            assert style == ["solid", "3px"]


def test_a_link_to_a_trace_shows_it_also_behind_others_that_say_the_same(chromium: Browser, address: str) -> None:
    from playwright.sync_api import expect

    hidden = sample("c", 3, round_index=2).id
    with opened(chromium, f"{address}/problem/c") as (page, _):
        assert not page.locator(f"#t-{hidden}").is_visible()
    with opened(chromium, f"{address}/trace/{hidden}") as (page, complaints):
        assert page.locator(f"#t-{hidden}").is_visible()
        expect(page.locator(f"#t-{hidden}")).to_be_in_viewport()  # it may still be scrolling there
        assert complaints.all == []


def test_landmarks_and_labels_are_there(chromium: Browser, address: str) -> None:
    for path in ("/", "/problem/c"):
        with opened(chromium, address + path) as (page, _):
            assert page.locator("main").count() == page.locator("h1").count() == 1
            assert page.get_attribute("html", "lang") == "en"
            assert page.locator("a.skip").get_attribute("href") == "#main"
            unnamed = page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select, button, a')].filter("
                "e => !(e.labels && e.labels.length) && !e.ariaLabel && !e.textContent.trim()).map(e => e.outerHTML)"
            )
            assert unnamed == []
            ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
            assert len(ids) == len(set(ids))


def test_a_long_text_has_a_frame_of_its_own_that_keys_can_scroll(chromium: Browser, tmp_path: Path) -> None:
    text = "word " * 4000 + "x" * 3000 + "\n#### 2"
    write_problems(
        tmp_path / "run" / "problems.parquet", {"train": [problem("a", "y" * 2000, meta={"steps": "z" * 500})]}
    )
    ledger_of(tmp_path / "run", [(sample("a", 0, text), verdict())])
    with viewed(tmp_path / "run", tmp_path / "scratch") as (url, _):
        for path in ("/", "/?by=trace", "/problem/a"):
            with opened(chromium, url + path, size=NARROW) as (page, complaints):
                open_all(page)
                assert overflow(page) == 0, path
                assert complaints.all == []
                assert page.locator("body").evaluate("e => e.scrollHeight") < 4000
        with opened(chromium, f"{url}/problem/a") as (page, _):
            assert page.locator("pre.long").get_attribute("tabindex") == "0"


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_nothing_that_a_run_or_an_address_holds_is_executed(chromium: Browser, hostile: str, path: str) -> None:
    alerts: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    with opened(chromium, f"{hostile}/icon.svg") as (page, complaints):
        page.on("dialog", dismissed)
        page.goto(hostile + path)
        open_all(page)
        assert page.locator("main").inner_text()
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1
        assert page.evaluate("[...document.links].every(link => link.protocol === 'http:' && link.origin === origin)")
        assert [said for said in complaints.all if not re.search("status of 404", said)] == []
    assert alerts == []


def test_a_run_that_grows_says_so_and_shows_the_rest(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_rft.viewer import reload as shelves

    monkeypatch.setattr(shelves, "LEAST_SECONDS", 0.0)
    ledger = write_run(tmp_path / "run")
    with (
        viewed(tmp_path / "run", tmp_path / "scratch") as (url, _),
        opened(chromium, f"{url}/?status=correct") as (page, _),
    ):
        assert page.locator(".notice").count() == 0
        commit(ledger, "more", [(sample("new", 0, round_index=3), verdict())])
        page.reload()
        assert "has grown" in page.inner_text(".notice")
        for _ in range(100):
            page.locator(".notice a").click()
            if page.locator(".notice").count() == 0:
                break
        assert page.url.endswith("/?status=correct")
        assert "7 problems" in page.inner_text(".page-head")
