"""benchmarks/RESULTS.md: what it says of rows that were measured, could not be, or failed; nothing is measured here."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from tests.paths import ROOT
from tests.programs import benchmark

MACHINE = {"device": "a processor, 2 cores", "memory": "8 GiB"}
STORED = {
    "name": "training",
    "title": "Training",
    "command": "python benchmarks/train.py --examples 300",
    "status": "measured",
    "said": "",
    "seconds": 61.2,
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "load": 0.12,
    "machine": MACHINE,
    "versions": {"trl": "1.16.0"},
    "figures": [
        {
            "what": "training | tiny",
            "unit": "tokens/s",
            "better": "more",
            "ours": [9000.0, 7000.0, 8000.0],
            "baselines": {"TRL, defaults": [4000.0, 4100.0, 3900.0], "TRL, tuned": [16000.0]},
        },
        {
            "what": "tokens a correct trace",
            "unit": "tokens",
            "better": "less",
            "ours": [50.0],
            "baselines": {"fixed k": [75.0]},
        },
        {"what": "right", "unit": "%", "better": "neither", "ours": [99.24], "baselines": {"another": [95.75]}},
        {"what": "never as good", "unit": "s", "better": "less", "ours": [3.0], "baselines": {"x": [float("inf")]}},
        {"what": "alone", "unit": "s", "better": "less", "ours": [0.0123], "baselines": {}},
    ],
    "notes": ["1 torch threads"],
}


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    return {name: benchmark(name) for name in ("figures", "results_page", "bench_rows", "run_all")}


@pytest.fixture
def record(modules: dict[str, ModuleType]) -> Any:
    return modules["results_page"].Record.of(json.loads(json.dumps(STORED)))


def test_a_row_shows_medians_with_their_spread_and_how_many_times_better_we_are(
    modules: dict[str, ModuleType], record: Any
) -> None:
    lines = modules["results_page"].page([record]).splitlines()
    assert "`python benchmarks/train.py --examples 300`" in lines
    ours = "8,000 (7,000 to 9,000) tokens/s"
    assert rf"| training \| tiny | {ours} | TRL, defaults: 4,000 (3,900 to 4,100) tokens/s | 2.00x |" in lines
    assert "|  |  | TRL, tuned: 16,000 tokens/s | 0.50x |" in lines  # a baseline that is better is not hidden
    assert "| tokens a correct trace | 50 tokens | fixed k: 75 tokens | 1.50x |" in lines  # less is better
    assert "| right | 99.2 % | another: 95.8 % |  |" in lines
    assert "| never as good | 3 s | x: not reached |  |" in lines
    assert "| alone | 0.012 s | | |" in lines
    assert "- 61 s on 2026-01-02 at commit abc1234; load of the machine before it 0.1" in lines


def test_the_page_says_what_it_was_measured_on(modules: dict[str, ModuleType], record: Any) -> None:
    page = modules["results_page"].page([record])
    for line in ("| device | a processor, 2 cores |", "| versions | trl 1.16.0 |", "| commit | abc1234 |"):
        assert line in page.splitlines()
    assert "another machine" not in page
    elsewhere = replace(record, machine={"device": "other"}, date="2026-01-01T00:00:00+00:00")
    assert "- on another machine: other" in modules["results_page"].page([record, elsewhere])


def test_what_is_missing_and_what_failed_are_rows_beside_the_others(
    modules: dict[str, ModuleType], record: Any
) -> None:
    Record = modules["results_page"].Record
    missing = Record("a", "A", "python a.py", "missing", "no interpreter with vLLM: make vllm")
    failed = Record("b", "B", "python b.py", "failed", "ended with status 1; its last line: OSError: full")
    page = modules["results_page"].page([missing, record, failed])
    assert "Not measured: no interpreter with vLLM: make vllm.\n" in page
    assert "Failed: ended with status 1; its last line: OSError: full.\n" in page
    assert "2.00x" in page
    assert modules["results_page"].page([missing, failed]).count("## ") == 2


def test_a_document_of_a_benchmark_is_read_as_it_was_written(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    figures = modules["figures"]
    figure = figures.Figure("x", "s", "less", [1.0, 2.0], {"baseline": [3.0]})
    is_instead_of_text = figures.write_json(
        str(tmp_path / "x.json"), [figure], packages=["numpy", "no-such"], notes=["n"]
    )
    assert not is_instead_of_text
    found, versions, notes = figures.read_json(tmp_path / "x.json")
    assert found == [figure]
    assert list(versions) == ["numpy"]
    assert notes == ["n"]


def test_a_row_without_its_data_says_how_to_get_them(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    rows, Given = modules["bench_rows"], modules["bench_rows"].Given
    code, math = (next(row for row in rows.ROWS if row.name == name) for name in ("code", "math"))
    said = rows.missing(code, Given(tmp_path, None))
    assert said.startswith("DATA/humaneval/HumanEval.jsonl is not there: ")
    assert rows.missing(math, Given(None, None)) is None
    real, shown, notes = rows.arguments(math, Given(None, None), is_brief=False)
    assert real == shown
    assert len(notes) == 2
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").touch()
    real, shown, notes = rows.arguments(math, Given(tmp_path, None), is_brief=False)
    assert real[-1] == str(tmp_path / "gsm8k" / "test.jsonl")
    assert shown[-1] == "DATA/gsm8k/test.jsonl"
    assert len(notes) == 1


def test_an_interpreter_without_vllm_is_a_sentence(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    rows = modules["bench_rows"]
    assert "STAR_RFT_VLLM_PYTHON" in rows.vllm(rows.Given(None, None))
    assert "does not start" in rows.vllm(rows.Given(None, tmp_path / "python"))


def test_every_row_is_a_benchmark_that_is_there(modules: dict[str, ModuleType]) -> None:
    rows = modules["bench_rows"].ROWS
    assert len({row.name for row in rows}) == len(rows)
    assert [row.name for row in rows if not (ROOT / row.arguments[0]).is_file()] == []


def test_a_row_that_fails_ends_with_its_last_line(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    program = "print('a start'); raise SystemExit('it went wrong')"
    said = modules["run_all"].run([sys.executable, "-c", program], tmp_path / "log", 30)
    assert said == "ended with status 1; its last line: it went wrong"


@pytest.mark.full
def test_a_row_that_takes_too_long_leaves_no_process(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time;"
        " child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True);"
        " print(child.pid, flush=True); time.sleep(60)"
    )
    began = time.monotonic()
    said = modules["run_all"].run([sys.executable, "-c", program], tmp_path / "log", 1.5)
    assert time.monotonic() - began < 20
    child = (tmp_path / "log").read_text().strip()
    assert said == f"not done within 2 s; its last line: {child}"
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE


def test_what_was_measured_is_not_measured_again(modules: dict[str, ModuleType], record: Any) -> None:
    is_still_so = modules["run_all"].is_still_so
    assert is_still_so(record, MACHINE, "abc1234")
    assert not is_still_so(record, MACHINE, "abc1235")
    assert not is_still_so(record, {"device": "other"}, "abc1234")
    assert not is_still_so(replace(record, status="failed"), MACHINE, "abc1234")
    changed = replace(record, commit="abc1234 with changes")
    assert not is_still_so(changed, MACHINE, "abc1234 with changes")
