"""How fast selection is, and in how much memory: a synthetic ledger of many traces, equation dedup and a cap.

    python benchmarks/selection.py --traces 1000000 --problems 50000

The ledger is written as the real one writes it (Parquet parts and a manifest), and a tenth of it: the last line says
how the time grows. Selection runs in a process of its own, whose peak memory is printed.

Imports star_rft.files, star_rft.ledger, star_rft.selection: the selection that it measures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from star_rft.files import write_table
from star_rft.ledger import SAMPLES, VERDICTS, Ledger, described

RULES = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 4}]
PART = 100_000
PASS_RATE, EQUATION_LISTS = 0.5, 6
TEXT = "She has {a} + {b} = {c} apples in the morning and sells them all, each for two dollars. " * 3 + "#### {c}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--select", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.select:
        print(json.dumps(timed_selection(args.select)))
        return 0
    seconds = {}
    for share in (10, 1):
        traces = args.traces // share
        with tempfile.TemporaryDirectory() as folder:
            write_ledger(Path(folder), traces=traces, problems=max(1, args.problems // share))
            runs = [_in_process(Path(folder)) for _ in range(args.repeats)]
        runs.sort(key=lambda run: run["seconds"])
        median = runs[len(runs) // 2]
        seconds[share] = median["seconds"]
        print(
            f"{traces:>10,} traces: {median['selected']:>8,} selected in {median['seconds']:6.2f} s,"
            f" {traces / median['seconds']:>9,.0f} traces/s, peak memory {median['peak_mb']:,.0f} MiB"
        )
    print(f"10x the traces take {seconds[1] / seconds[10]:.1f}x the time")
    return 0


def write_ledger(folder: Path, *, traces: int, problems: int) -> None:
    ledger = Ledger(folder, is_writer=True)
    rng = np.random.default_rng(0)
    for start in range(0, traces, PART):
        index = np.arange(start, min(start + PART, traces))
        unit = f"u{start:09d}"
        samples, verdicts = _part(index, problems=problems, traces=traces, rng=rng)
        write_table(folder / "ledger" / "samples" / f"{unit}.parquet", samples)
        write_table(folder / "ledger" / "verdicts" / f"{unit}.parquet", verdicts)
        parts = {name: f"{name}/{unit}.parquet" for name in ("samples", "verdicts")}
        ledger.adopt(described(ledger.folder, unit, parts, rows=len(index), tokens=0, seconds={}))


def _part(index: np.ndarray, *, problems: int, traces: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    count, each = len(index), max(1, traces // problems)
    problem = [f"{n:016x}" for n in index // each]
    ids = [f"{int(n) * 2654435761 % 2**64:016x}" for n in index]
    text_keys = [f"{n:016x}" for n in index // 2 * 7919]
    equation_keys = [f"{a}{b:02x}" for a, b in zip(problem, rng.integers(0, EQUATION_LISTS, count), strict=True)]
    status = np.where(rng.random(count) < PASS_RATE, "correct", "incorrect")
    texts = [TEXT.format(a=n % 97, b=n % 89, c=n % 97 + n % 89) for n in index]
    tokens = rng.integers(40, 200, count)
    samples = pa.table(
        {
            "sample_id": ids,
            "problem_id": problem,
            "split": ["train"] * count,
            "round": [1] * count,
            "sample_index": index % each,
            "model": ["m"] * count,
            "decode_id": ["d"] * count,
            "prompt_sha": ["p"] * count,
            "seed": index.astype(np.uint64),
            "hinted": [False] * count,
            "text": texts,
            "token_ids": [[1, 2, 3]] * count,
            "tokens": tokens,
            "finish_reason": np.where(rng.random(count) < 0.97, "stop", "length"),
            "logprob": -rng.random(count) * 100,
            "leaks_hint": [False] * count,
            "ids_are_sampled": [True] * count,
        }
    ).cast(SAMPLES)
    verdicts = pa.table(
        {
            "sample_id": ids,
            "verifier": ["math"] * count,
            "version": ["2"] * count,
            "status": status,
            "score": (status == "correct").astype(float),
            "answer": ["4"] * count,
            "reason": np.where(status == "correct", "match", "mismatch"),
            "verify_seconds": [0.0] * count,
            "text_key": text_keys,
            "equation_key": equation_keys,
            "program_key": text_keys,
            "invalid_steps": [0] * count,
            "key_version": [2] * count,
            "ordinal": [1] * count,
        }
    ).cast(VERDICTS)
    return samples, verdicts


def _in_process(folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--select", str(folder)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def timed_selection(folder: Path) -> dict[str, float]:
    from star_rft.selection.select import SelectionSpec, select

    ledger = Ledger(folder)
    began = time.perf_counter()
    chosen = select(ledger.connect(), SelectionSpec(RULES, weighting="per_problem"), round_index=1)
    table = chosen.traces.to_arrow_table()
    write_table(folder / "selection.parquet", table)
    return {
        "seconds": time.perf_counter() - began,
        "selected": sum(table["is_selected"].to_pylist()),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    sys.exit(main())
