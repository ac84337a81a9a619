"""Writes the pictures of the documentation from a report, as a browser shows it.

star-rft run quickstart
python scripts/picture.py runs/quickstart/report.html

It needs Playwright and a Chromium of the system. Pictures are written beside each other into docs/, and are of one run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from playwright.sync_api import Browser, Page

DOCS = Path(__file__).resolve().parent.parent / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = 1280
# The head of the page with its first two figures, which say whether it got better.
HEAD = 1092
# Bars that would lie over what is shown, and half of a problem's samples, are left out.
STYLE = """
nav.top, .skip { display: none !important }
.problem .traces > :nth-child(n+2):nth-child(-n+4) { display: none !important }
"""
# What of the page is shown where: a file and the element of the page.
PARTS = {
    "scores.png": "#better .two",
    "classes.png": "figure:has([data-plot=plot-flows])",
    "funnel.png": "figure:has([data-plot=plot-funnel])",
    "trace.png": "[data-part=new] article",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.html of a finished run")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder for report.png and report/")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    found = chromium()
    if found is None or not given.report.is_file():
        print(f"error: {given.report} is missing, or there is none of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        # Without its own sandbox, which root and containers cannot have: the page is ours and loads nothing.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            page = opened(browser, given.report, scheme)
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEAD}
            page.screenshot(path=given.out / name, clip=clip, full_page=True)  # type: ignore[arg-type]
            print(given.out / name)
        page = opened(browser, given.report, "light")
        for name, selector in PARTS.items():
            path = given.out / "report" / name
            page.locator(selector).first.screenshot(path=path)
            print(path)
        browser.close()
    return 0


def chromium() -> str | None:
    """Return the path of a Chromium of the system."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def cells(page: str, head: str) -> list[list[str]]:
    """Return the rows of the first table of a Markdown page that begins so."""
    lines = page[page.index(head) :].split("\n\n")[0].splitlines()[2:]
    rows = [re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|")) for line in lines]
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]


def save_figure(drawn: go.Figure, path: Path, *, width: int, height: int) -> int:
    """Write a figure as a browser draws it; return the exit status."""
    from playwright.sync_api import sync_playwright

    found = chromium()
    if found is None:
        print(f"error: there is none of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        html = Path(folder) / "figure.html"
        html.write_text(drawn.to_html(include_plotlyjs=True, config={"staticPlot": True}))
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width + 16, "height": height + 16})
        page.goto(html.as_uri())
        page.wait_for_selector(".main-svg")
        page.locator(".plotly-graph-div").screenshot(path=path)
        browser.close()
    print(path)
    return 0


def opened(browser: Browser, report: Path, scheme: str) -> Page:
    """Return the page with every figure drawn."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 1600}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.wait_for_function("document.querySelectorAll('[data-plot]:not([data-drawn])').length === 0")
    page.add_style_tag(content=STYLE)
    page.wait_for_timeout(500)
    return page


if __name__ == "__main__":
    sys.exit(main())
