"""What people found when they looked at suspect references: kept with the run, read when prompts are classed again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, get_args

from star_rft.errors import UserError
from star_rft.files import append_line, read_lines

Finding = Literal["right", "wrong"]
FINDINGS: tuple[Finding, ...] = get_args(Finding)


def reviews(path: Path) -> dict[str, bool]:
    """Return, by problem, whether its reference was found right; the newest line about a problem holds."""
    return {line["problem_id"]: line["gold"] == "right" for line in read_lines(path)}


def add(path: Path, found: Mapping[str, Finding]) -> None:
    for problem_id, finding in found.items():
        append_line(path, {"problem_id": problem_id, "gold": finding})


def read_findings(source: Path, *, known: Collection[str]) -> dict[str, Finding]:
    """Read lines of `{"problem_id": ..., "gold": "right" | "wrong"}`, as `star-rft frontier --export` writes them.

    A line whose `gold` is null was not looked at yet. Raises UserError with the line for anything else.
    """
    try:
        lines = source.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read: {error}") from None
    found: dict[str, Finding] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{source}: line {number} is no JSON: {error}") from None
        if not isinstance(line, dict) or "problem_id" not in line or "gold" not in line:
            raise UserError(f'{source}: line {number} must hold "problem_id" and "gold"')
        if line["problem_id"] not in known:
            raise UserError(f"{source}: line {number}: {line['problem_id']!r} is no train problem of this run")
        if line["gold"] is None:
            continue
        if line["gold"] not in FINDINGS:
            raise UserError(f"{source}: line {number}: gold is {line['gold']!r}; valid: {', '.join(FINDINGS)}")
        found[line["problem_id"]] = line["gold"]
    return found
