"""The command, in this process: an export costs a second, not a start of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from star_rft.cli import app
from star_rft.models import ASSETS


def export(run: Path, out: Path, *arguments: str) -> Path:
    """Export quietly into a folder and return it."""
    app(["export", str(run), "--out", str(out), "--quiet", *arguments], standalone_mode=False)
    return out


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def snippet(out: Path) -> str:
    """Return the code that the card gives to load the export."""
    after = (out / "README.md").read_text().partition("## Load it")[2]
    return after.partition("```")[2].partition("\n")[2].partition("```")[0]


def trained_by_trl(out: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the card's code for TRL in the folder of the export, for one step of the tiny model; return its trainer."""
    code = snippet(out).replace("path/to/the/base/model", str(ASSETS / "tiny"))
    monkeypatch.chdir(out)
    found: dict[str, Any] = {}
    # Newer versions of transformers warn of what TRL sets by default for gradient_checkpointing.
    short = 'output_dir="out", max_steps=1, use_cpu=True, report_to=[], gradient_checkpointing=None'
    exec(code.replace('output_dir="out"', short), found)
    return found["trainer"]
