"""The command, in this process: an export costs a second, not a start of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from star_rft.cli import app


def export(run: Path, out: Path, *arguments: str) -> Path:
    """Export quietly into a folder and return it."""
    app(["export", str(run), "--out", str(out), "--quiet", *arguments], standalone_mode=False)
    return out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
