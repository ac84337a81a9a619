"""A real browser for what people look at: Debian's Chromium, driven by Playwright, and what it complains of.

A test module says `from tests.browser import chromium` and takes the fixture; it is skipped where there is no Chromium.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, NARROW = (1280, 900), (390, 844)


@dataclass(slots=True)
class Complaints:
    """What went wrong on a page: errors and warnings of the console, exceptions, requests without an answer."""

    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.console, *self.errors, *self.requests]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one test module: while it runs, asyncio.run cannot be called in this thread."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = WIDE,
    is_dark: bool = False,
    has_script: bool = True,
) -> Iterator[tuple[Page, Complaints]]:
    """Open a page in a context of its own, and note what it complains of while the block runs."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if is_dark else "light",
        java_script_enabled=has_script,
    )
    found = Complaints()
    page = context.new_page()
    page.on(
        "console", lambda message: found.console.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    # What was still on its way when the page was left is no fault of it.
    page.on(
        "requestfailed",
        lambda request: None if request.failure == "net::ERR_ABORTED" else found.requests.append(request.url),
    )
    page.goto(url)
    try:
        yield page, found
    finally:
        context.close()


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


# The contrast of WCAG 2.1 of every text that is shown, against the nearest background that is not transparent.
_FAINT = """
() => {
  const channels = (colour) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (channels(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, script, style, [disabled]")) continue;
    const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    const text = element.textContent.trim().slice(0, 40);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${element.tagName} ${element.className}: ${text}`);
  }
  return found;
}
"""


def faint_texts(page: Page) -> list[str]:
    """Return the texts whose contrast is below 4.5, the least that WCAG 2.1 asks for (AA)."""
    found: list[str] = page.evaluate(_FAINT)
    return found
