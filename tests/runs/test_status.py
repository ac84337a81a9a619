from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from star_rft.runs.folder import RunFolder
from star_rft.runs.reports import write_report
from star_rft.runs.status import status_of
from star_rft.types import RoundReport


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(finished, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def drop_units(folder: RunFolder, begins: str, keep: int) -> None:
    """Forget the units of a split and round, but for so many."""
    manifest = folder.path / "ledger/manifest"
    lines = []
    for line in manifest.read_text().splitlines():
        if json.loads(line).get("unit", "").startswith(begins):
            keep -= 1
            if keep < 0:
                continue
        lines.append(line)
    manifest.write_text("".join(f"{line}\n" for line in lines))


def test_a_run_with_all_its_rounds_is_finished(folder: RunFolder) -> None:
    found = status_of(folder, rounds=2)
    assert found.is_over
    assert str(found) == "finished"
    assert found.finished == (0, 1, 2)


def test_a_run_that_the_gate_ended_is_finished(folder: RunFolder) -> None:
    gate = {"action": "stop", "evidence": {"without_gain": 2}}
    write_report(folder.metrics(2), RoundReport(2, "m", 1, gate=gate))
    assert status_of(folder, rounds=9, patience=2).is_over
    assert not status_of(folder, rounds=9, patience=3).is_over
    assert str(status_of(folder, rounds=9)) == "round 3 of 9: sampling"


def test_a_round_is_at_its_first_missing_file(folder: RunFolder) -> None:
    for path, stage in (
        (folder.metrics(2), "evaluating"),
        (folder.checkpoint(2), "training"),
        (folder.selection(2), "selecting"),
        (folder.frontier(2), "sampling"),
    ):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        found = status_of(folder, rounds=2)
        assert (found.round, found.stage) == (2, stage)


def test_the_units_of_sampling_are_counted(folder: RunFolder) -> None:
    shutil.rmtree(folder.checkpoint(2))
    for path in (folder.metrics(2), folder.selection(2), folder.frontier(2)):
        path.unlink()
    drop_units(folder, "r002-train", keep=1)
    found = status_of(folder, rounds=2)
    assert (found.done, found.planned) == (1, 4)
    assert str(found) == "round 2 of 2: sampling, 1 of 4 units stored"


def test_a_run_without_a_round_evaluates_its_start(tmp_path: Path) -> None:
    found = status_of(RunFolder(tmp_path), rounds=3)
    assert str(found) == "round 0, the model that it starts from: evaluating"
