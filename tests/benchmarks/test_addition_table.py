"""The table of STaR's addition says what the runs' own files say."""

from __future__ import annotations

import shutil
from pathlib import Path

import star_rft
from star_rft.runs.folder import RunFolder
from tests.programs import benchmark


def test_a_run_that_ended_earlier_has_empty_cells(finished: Path, tmp_path: Path) -> None:
    addition = benchmark("addition")
    short = RunFolder(tmp_path / "short")
    for round_index in (0, 1):
        short.round(round_index).mkdir(parents=True)
        short.metrics(round_index).write_bytes(RunFolder(finished).metrics(round_index).read_bytes())
    shutil.copy(RunFolder(finished).config, short.config)
    runs = [star_rft.open_run(folder) for folder in (finished, short.path)]
    head, _, *rows = addition.table(runs).splitlines()
    assert head == "| round | run: 1 | 2 | all | alone | short: 1 | 2 | all | alone |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["0", "1", "2"]
    assert cells[2][5:] == [""] * 4
    report = runs[0].reports[1]
    assert report.held_out is not None
    groups = [f"{100 * report.held_out.by_group[steps]:.0f}" for steps in ("1", "2")]
    all_of_them = f"{100 * report.held_out.pass_at_k['1']:.1f}"
    assert cells[1][1:] == [*groups, all_of_them, str(report.correct)] * 2
