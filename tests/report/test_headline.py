"""The tiles at the top of the page, from reports alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_rft.report.data import Facts
from star_rft.report.page import tiles
from star_rft.runs.folder import RunFolder
from star_rft.runs.status import RunStatus
from star_rft.types import HeldOutScores, Interval, RoundReport


def report(round_index: int, change: Interval | None = None) -> RoundReport:
    scores = HeldOutScores(
        split="dev",
        problems=20,
        n=4,
        pass_at_k={"1": 0.5},
        pass_at_1_interval=Interval(0.5, 0.4, 0.6),
        pass_at_1_upper=0.5,
        maj_at_k={},
        greedy=None,
        by_group={},
        unknown=0,
        truncated=0,
        tokens=100,
        vs_base=change,
    )
    return RoundReport(round=round_index, model=f"m{round_index}", problems=20, held_out=scores)


def facts(folder: Path, *reports: RoundReport) -> Facts:
    return Facts(
        folder=RunFolder(folder),
        config={},
        config_text="",
        status=RunStatus(rounds=1, finished=(0, 1), round=None, stage=None),
        reports=reports,
        dev=[],
        test=[],
        reasons=[],
        flows=[],
        funnels={},
        lengths=[],
        tokens={},
        controls=None,
        timeline=[],
    )


@pytest.mark.parametrize(
    ("change", "tone"),
    [
        (Interval(0.1, 0.05, 0.15), "good"),
        (Interval(-0.1, -0.15, -0.05), "bad"),
        (Interval(0.1, -0.05, 0.25), ""),
        (Interval(-0.1, -0.25, 0.05), ""),
    ],
)
def test_a_change_is_good_or_bad_where_its_interval_does_not_hold_zero(
    tmp_path: Path, change: Interval, tone: str
) -> None:
    found = {tile.name: tile for tile in tiles(facts(tmp_path, report(0), report(1, change)))}
    assert found["change"].value == f"{change.value:+.3f}"
    assert found["change"].tone == tone
