"""How long exports of a large run take, and in how much memory.

    python benchmarks/export.py --traces 1000000 --problems 125000

The run is that of benchmarks/looking_run.py, of two rounds; each export is of all its traces or all that its rounds
trained on, in a process of its own, whose peak memory is printed.

Imports star_rft.data, star_rft.runs: the files of the run that it makes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from looking_run import write_run

from star_rft.data import write_problems
from star_rft.runs.folder import RunFolder

ROUNDS = 2
EXPORTS = (
    ["--format", "sft"],
    ["--format", "dpo", "--pairs", "4"],
    ["--format", "jsonl", "--include", "all"],
    ["--format", "parquet", "--include", "all", "--tokens"],
    ["--format", "hub-folder", "--include", "all"],
)
# Not ru_maxrss: that is kept over exec, and would be at least that of the process which made the run.
EXPORT = """
import re, sys
from pathlib import Path
from star_rft.cli import app
app(sys.argv[1:], standalone_mode=False)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=125_000)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        write_run(run.path, traces=args.traces, problems=args.problems, rounds=ROUNDS)
        write_problems(run.warm_start_problems, {"train": []})
        for options in EXPORTS:
            print(line(run.path, Path(folder) / "out", options), flush=True)
    return 0


def line(run: Path, out: Path, options: Sequence[str]) -> str:
    command = ["export", str(run), "--out", str(out), "--all-rounds", "--force", "--json", *options]
    began = perf_counter()
    done = subprocess.run([sys.executable, "-c", EXPORT, *command], capture_output=True, text=True, check=True)
    seconds = perf_counter() - began
    made, peak = done.stdout.splitlines()
    rows = ", ".join(f"{count:,} rows of {name}" for name, count in json.loads(made)["files"].items())
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    took = f"{seconds:6.1f} s, peak {int(peak) / 2**10:6,.0f} MiB, {size:6,.0f} MiB written"
    return f"{' '.join(options[1:]):<36} {took}: {rows}"


if __name__ == "__main__":
    sys.exit(main())
