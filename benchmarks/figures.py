"""What a benchmark measured, as data: the form that `--json` writes and benchmarks/RESULTS.md is made of."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

Better = Literal["more", "less", "neither"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison: values of star-rft and of its baselines, one a repeat. `better` "neither" has no ratio."""

    what: str
    unit: str
    better: Better
    ours: Sequence[float]
    baselines: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def ratio(self, baseline: str) -> float | None:
        """Return by what factor star-rft's median is the better one; None where that says nothing."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.baselines[baseline])
        above, below = (ours, theirs) if self.better == "more" else (theirs, ours)
        says_something = self.better != "neither" and below and math.isfinite(above) and math.isfinite(below)
        return above / below if says_something else None


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write one JSON document, to a file or instead of the text"
    )


def write_json(target: str | None, figures: Sequence[Figure], *, packages: Sequence[str] = (), **details: Any) -> bool:
    """Write the document where `--json` says; return whether it took the place of the text on standard output.

    `packages` are distributions whose versions belong to the figures; `details` is whatever else was found.
    """
    if target is None:
        return False
    document = {**details, "figures": [asdict(figure) for figure in figures], "versions": versions(packages)}
    text = json.dumps(document, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return True
    Path(target).write_text(text)
    return False


def read_json(path: Path) -> tuple[list[Figure], dict[str, str], list[str]]:
    """Return figures, versions and notes of a document."""
    document = json.loads(path.read_text())
    return [Figure(**one) for one in document["figures"]], document["versions"], document.get("notes", [])


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
