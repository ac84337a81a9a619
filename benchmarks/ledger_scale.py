"""What a ledger of millions of traces costs: time and peak memory of everything that a run does with it.

    python benchmarks/ledger_scale.py                              # 1e5, 1e6 and 1e7 traces, in a temporary folder
    python benchmarks/ledger_scale.py --traces 100000 1000000 --keep /tmp/ledgers

The traces are made (benchmarks/looking_run.py: about 250 characters and 80 tokens each, 20 of a problem in 4 rounds)
and committed in units of 2,048. Each step is a process of its own, whose peak memory is the kernel's (VmHWM):

    write      parts and manifest of all units, small parts put together; without the making of the traces
    open       what a run does that goes on: a torn line cut off, a truncated part set aside, all others looked at
    check      every byte read and its SHA-256 compared
    classify   the class of every problem, from its whole history
    select     dedup by text and equations, cap, of the traces of all rounds
    report     the page

The last column is the factor of time from one size to the next; at 10 times the traces, 10 is linear.

Imports star_rft.files, star_rft.frontier, star_rft.ledger, star_rft.report, star_rft.runs, star_rft.selection,
star_rft.stages: the steps that it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, EACH = 4, 20
CHUNK = 5_000  # problems that are made at once
MEMORY_MB = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--keep", type=Path, help="where the runs are made once and stay")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.step:
        seconds = STEPS[args.step](args.run, args.traces[0])
        print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb()}))
        return 0
    from star_rft.ledger import Ledger

    print(f"{'traces':>12} {'step':<10} {'seconds':>9} {'peak MiB':>9} {'factor':>7}")
    before: dict[str, float] = {}
    with nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory() as kept:
        for traces in args.traces:
            run = Path(kept) / f"ledger-{traces}"
            for step in STEPS:
                if step == "write" and run.exists():
                    continue
                found = _step(step, run, traces)
                factor = f"{found['seconds'] / before[step]:.1f}" if step in before else ""
                over = "" if found["peak_mb"] < MEMORY_MB else f"  (more than {MEMORY_MB:,})"
                print(
                    f"{traces:>12,} {step:<10} {found['seconds']:>9.1f} {found['peak_mb']:>9,.0f} {factor:>7}{over}",
                    flush=True,
                )
                before[step] = found["seconds"]
            parts = Ledger(run).summary()
            print(
                f"{traces:>12,} {'on disk':<10} {parts['bytes'] / 1e6:>9,.0f} MB in {parts['parts']:,} parts,"
                f" {parts['bytes'] / parts['samples']:.0f} bytes a trace"
            )
    return 0


def _step(step: str, run: Path, traces: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--run", str(run), "--traces", str(traces)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(folder: Path, traces: int) -> float:
    import looking_run as made
    import numpy as np

    from star_rft.ledger import Ledger
    from star_rft.runs.folder import RunFolder

    problems, run = traces // EACH, RunFolder(folder)
    folder.mkdir(parents=True)
    made.write_config(run, ROUNDS)
    made.write_problems(run, problems)
    ledger = Ledger(folder, is_writer=True)
    for decoding in (made.SAMPLED, made.GREEDY):
        ledger.record_decoding(decoding)
    rng = np.random.default_rng(0)
    rate_P = rng.beta(0.7, 1.3, problems)
    spent = 0.0
    for round_index in range(ROUNDS + 1):
        for start in range(0, problems, CHUNK) if round_index else ():
            rows = made.train_rows(round_index, rate_P[start : start + CHUNK], EACH // ROUNDS, rng, first=start)
            spent += _timed(lambda: made.write_units(ledger, rows, f"r{round_index:03d}-train-{start:07d}"))  # noqa: B023
        rows = made.dev_rows(round_index, rng)
        spent += _timed(lambda: made.write_units(ledger, rows, f"r{round_index:03d}-dev"))  # noqa: B023
        spent += _timed(ledger.compact)
    return spent


def open_again(folder: Path, traces: int) -> float:
    """Open a ledger whose last line is torn and whose newest part is cut off; mended afterwards for the next steps."""
    from star_rft.ledger import Ledger

    ledger = Ledger(folder)
    manifest, newest = ledger.manifest.read_bytes(), ledger.files("samples", "verdicts")[-1]
    kept = {path: path.read_bytes() for path in newest}
    ledger.manifest.write_bytes(manifest + b'{"unit": "torn')
    os.truncate(newest[0], newest[0].stat().st_size - 1)
    seconds = _timed(lambda: Ledger(folder, is_writer=True))
    if not Ledger(folder).lost():
        raise SystemExit("the truncated part was not found")
    for path in (ledger.folder / "damaged").iterdir():
        path.unlink()
    ledger.manifest.write_bytes(manifest)
    for path, data in kept.items():
        path.write_bytes(data)
    return seconds


def check(folder: Path, traces: int) -> float:
    from star_rft.ledger import Ledger

    seconds = _timed(lambda: Ledger(folder, is_writer=True, reads_all=True))
    if Ledger(folder).lost():
        raise SystemExit("a whole ledger was found damaged")
    return seconds


def classify(folder: Path, traces: int) -> float:
    from star_rft.files import write_table
    from star_rft.frontier.classes import classify
    from star_rft.ledger import Ledger
    from star_rft.runs.folder import RunFolder

    con = Ledger(folder).connect()
    return _timed(lambda: write_table(RunFolder(folder).frontier(ROUNDS), classify(con, through_round=ROUNDS)))


def select(folder: Path, traces: int) -> float:
    import looking_run as made

    from star_rft.files import write_batches
    from star_rft.ledger import Ledger
    from star_rft.runs.folder import RunFolder
    from star_rft.selection.select import SelectionSpec, select
    from star_rft.stages.selection import BATCH

    def chosen() -> None:
        con = Ledger(folder).connect()
        found = select(con, SelectionSpec(made.RULES, has_quarantine=True), round_index=ROUNDS)
        write_batches(RunFolder(folder).selection(ROUNDS), found.traces.to_arrow_reader(BATCH))

    return _timed(chosen)


def report(folder: Path, traces: int) -> float:
    from star_rft.report.page import write_page

    return _timed(lambda: write_page(folder))


STEPS: dict[str, Callable[[Path, int], float]] = {
    "write": write,
    "open": open_again,
    "check": check,
    "classify": classify,
    "select": select,
    "report": report,
}


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _peak_mb() -> float:
    """Return the peak memory of this process in MiB; `ru_maxrss` would be that of its parent where that is larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
