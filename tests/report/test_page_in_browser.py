"""The report as people see it: in Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from star_rft.ledger import Ledger
from star_rft.report.page import write_page
from tests.browser import NARROW, WIDE, chromium, faint_texts, opened, overflow
from tests.report.plot_names import PLOTS
from tests.small_ledgers import commit, sample, verdict

pytestmark = pytest.mark.full

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with a hostile trace, opened from the disk."""
    run = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(finished, run)
    ledger = Ledger(run, is_writer=True)
    ((problem,),) = ledger.connect().sql("select min(problem_id) from problems where split = 'train'").fetchall()
    text = "</pre><script>document.title = 'executed'</script><img src=x onerror=\"document.title = 'executed'\">"
    commit(ledger, "hostile", [(sample(problem, 99, text, round_index=2), verdict("unknown", text))])
    return write_page(run).as_uri()


@pytest.mark.parametrize(("size", "is_dark"), [(WIDE, False), (NARROW, True)])
def test_every_plot_is_drawn_and_nothing_complains(
    chromium: Browser, report: str, size: tuple[int, int], is_dark: bool
) -> None:
    with opened(chromium, report, size=size, is_dark=is_dark) as (page, complaints):
        plots = page.locator("[data-plot]")
        expect(page.locator("[data-drawn]")).to_have_count(plots.count())
        assert plots.count() == len(PLOTS)
        for place in plots.all():
            assert place.locator("svg").first.bounding_box() is not None
        assert overflow(page) == 0
        assert faint_texts(page) == []
        assert complaints.all == []


def test_no_text_of_a_trace_is_executed(chromium: Browser, report: str) -> None:
    with opened(chromium, report) as (page, _):
        expect(page.locator("[data-drawn]").first).to_be_attached()
        assert page.title() == "run - star-rft"
        expect(page.locator("pre", has_text="document.title = 'executed'").first).to_be_attached()


def test_no_script_runs_that_the_page_does_not_know(chromium: Browser, report: str) -> None:
    with opened(chromium, report) as (page, complaints):
        page.evaluate(
            "() => { const own = document.createElement('script'); own.textContent = 'window.ran = 1';"
            " document.body.append(own); }"
        )
        assert page.evaluate("window.ran") is None
        assert any("Content Security Policy" in line for line in complaints.console)


def test_the_plots_follow_the_theme(chromium: Browser, report: str) -> None:
    with opened(chromium, report) as (page, _):
        expect(page.locator("[data-plot=plot-by_round][data-drawn]")).to_be_attached()
        tick = page.locator("[data-plot=plot-by_round] .xtick text").first
        light = tick.evaluate("element => getComputedStyle(element).fill")
        page.emulate_media(color_scheme="dark")
        expect(tick).not_to_have_css("fill", light)


def test_filters_and_search_leave_what_fits(chromium: Browser, report: str) -> None:
    with opened(chromium, report) as (page, complaints):
        count = page.locator("#trace-count")
        whole = int(re.findall(r"\d+", count.text_content() or "")[0])
        page.locator("select[name=status]").select_option("correct")
        traces = page.locator("[data-trace]:visible")
        assert 0 < traces.count() < whole
        assert {trace.get_attribute("data-status") for trace in traces.all()} == {"correct"}
        assert f"{traces.count()} traces fit" == count.text_content()
        page.locator("select[name=round]").select_option("2")
        assert {trace.get_attribute("data-round") for trace in traces.all()} == {"2"}
        page.get_by_role("button", name="Clear").click()
        expect(count).to_have_text(f"{whole} traces in all")
        page.get_by_label("search", exact=True).fill("document.title")
        expect(count).to_contain_text("fit")
        assert 0 < traces.count() < whole
        page.get_by_label("search", exact=True).fill("no text says this")
        expect(count).to_have_text("No trace fits; clear a filter.")
        assert complaints.all == []


def test_it_can_be_read_without_a_mouse(chromium: Browser, report: str) -> None:
    with opened(chromium, report) as (page, _):
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        numbers = page.locator("details.numbers").first
        numbers.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(numbers.locator("table")).to_be_visible()


def test_without_scripts_the_numbers_and_traces_are_there(chromium: Browser, report: str) -> None:
    with opened(chromium, report, has_script=False) as (page, _):
        assert page.locator("details.numbers table tr").count() > 20
        expect(page.locator("#trace-filter")).to_be_hidden()
        expect(page.locator("[data-trace]").first).to_be_visible()
