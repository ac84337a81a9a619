"""What the tests of the viewer's pages share."""

from __future__ import annotations

from tests.browser import chromium

__all__ = ["chromium"]
