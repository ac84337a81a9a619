"""What scripts/golden.py takes for equal, and which differences it reports."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.paths import ROOT


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", ROOT / "scripts" / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()


def run_folder(folder: Path, **changes: Any) -> Path:
    """Write what the comparison reads of a run."""
    this: dict[str, Any] = {
        "samples": [{"sample_id": "a", "text": "1", "seconds": 2.0}, {"sample_id": "b", "text": "2", "seconds": 3.0}],
        "verdicts": [{"sample_id": "a", "status": "correct"}],
        "problems": [{"problem_id": "p", "reference": "1"}],
        "selection": [{"sample_id": "a", "is_selected": True}],
        "metrics": {"round": 1, "seconds": {"sample": 1.5}, "pass_at_k": {"1": 0.5}},
        "weights": b"weights",
    } | changes
    for place, table in {
        "ledger/samples/r001-train-aa-00000.parquet": "samples",
        "ledger/verdicts/r001-train-aa-00000.parquet": "verdicts",
        "problems.parquet": "problems",
        "rounds/001/selection.parquet": "selection",
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(this[table]), folder / place)
    (folder / "rounds/001/metrics.json").write_text(json.dumps(this["metrics"]))
    (folder / "rounds/001/model.safetensors").write_bytes(this["weights"])
    return folder


def test_runs_that_differ_in_order_and_times_only_are_equal(tmp_path: Path) -> None:
    before = run_folder(tmp_path / "before")
    rows = [{"sample_id": "b", "text": "2", "seconds": 9.0}, {"sample_id": "a", "text": "1", "seconds": 9.0}]
    metrics = {"round": 1, "seconds": {"sample": 99.0}, "pass_at_k": {"1": 0.5}}
    after = run_folder(tmp_path / "after", samples=rows, metrics=metrics)
    assert list(script.differences(before, after)) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"samples": [{"sample_id": "a", "text": "1", "seconds": 2.0}]}, "ledger/samples"),
        ({"verdicts": [{"sample_id": "a", "status": "unknown"}]}, "ledger/verdicts"),
        ({"problems": [{"problem_id": "p", "reference": "2"}]}, "problems.parquet"),
        ({"selection": [{"sample_id": "a", "is_selected": False}]}, "rounds/001/selection.parquet"),
        ({"metrics": {"round": 1, "pass_at_k": {"1": 0.25}, "seconds": {}}}, "rounds/001/metrics.json: pass_at_k.1"),
        ({"metrics": {"round": 1, "pass_at_k": {"1": 0.5}, "new": 1}}, "rounds/001/metrics.json: new is new"),
        ({"metrics": {"round": 1}}, "rounds/001/metrics.json: pass_at_k is gone"),
        ({"weights": b"other"}, "rounds/001/model.safetensors"),
    ],
)
def test_a_difference_is_reported_with_its_place(tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    before, after = run_folder(tmp_path / "before"), run_folder(tmp_path / "after", **changes)
    (line,) = script.differences(before, after)
    assert line.startswith(place)


def test_a_row_that_is_there_twice_is_not_that_row_once(tmp_path: Path) -> None:
    row = {"sample_id": "a", "status": "correct"}
    before, after = run_folder(tmp_path / "before"), run_folder(tmp_path / "after", verdicts=[row, row])
    assert len(list(script.differences(before, after))) == 1


def test_what_is_renamed_on_purpose_is_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_folder(tmp_path / "before")
    after = run_folder(
        tmp_path / "after",
        verdicts=[{"sample_id": "a", "verdict": "right"}],
        metrics={"round": 1, "held_out": {"pass_at_k": {"1": 0.5}}},
    )
    monkeypatch.setattr(script, "COLUMNS", {"status": "verdict"})
    monkeypatch.setattr(script, "VALUES", {"correct": "right"})
    monkeypatch.setattr(script, "METRICS", {"pass_at_k": "held_out.pass_at_k"})
    assert list(script.differences(before, after)) == []
