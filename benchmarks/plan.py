"""How long the next wave of a round takes to plan, from the ledger to the plan file, and with how much memory.

    python benchmarks/plan.py                    # 1,000,000 problems with 4 samples each, and a tenth of that

The ledger is synthetic (benchmarks/ledger_of_votes.py). `Scheduler.next` counts it in DuckDB, asks the adaptive
budget, and writes and reads the wave; the sampler is asked for its batch size only. Each size runs in a process of its
own.

Imports star_rft.frontier, star_rft.ledger, star_rft.progress, star_rft.runs, star_rft.sampling: the planning that it
measures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EACH = 4


class Counting:
    """In the place of a sampler and its tokenizer."""

    def batch_size_for(self, longest: int, decoding: object) -> int:
        return 64

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * len(text.split()) for text in texts]}

    def close(self) -> None:
        pass


def plan(run: Path, problems: int) -> dict[str, float]:
    sys.path.insert(0, str(ROOT))
    from star_rft import Decoding, Problem
    from star_rft.frontier.budget import Adaptive
    from star_rft.ledger import Ledger
    from star_rft.progress import Silent
    from star_rft.runs.folder import RunFolder
    from star_rft.runs.timing import Timing
    from star_rft.sampling.context import Engine, RunContext
    from star_rft.sampling.policy import Source
    from star_rft.sampling.rollout import Rollout
    from star_rft.sampling.scheduler import Scheduler

    ledger, folder, stub = Ledger(run), RunFolder(run), Counting()
    ids = [pid for (pid,) in ledger.connect().sql("select problem_id from problems order by problem_id").fetchall()]
    sampled = [Problem(id=pid, prompt="How many are there?", reference="1", verifier="math") for pid in ids]
    engine = Engine(lambda model: stub, str)
    context = RunContext(folder, ledger, {"train": sampled}, engine, Silent(), Timing(), 0, has_quarantine=True)
    rollout = Rollout(context, None, 4096)  # type: ignore[arg-type]
    source = Source(stub, range(64), (Decoding(1.0, 256),), (lambda problem: problem.prompt,))  # type: ignore[arg-type]
    scheduler = Scheduler(rollout, Adaptive(4, 64), None, "equation_key", "last", True)
    folder.round(2).mkdir(parents=True, exist_ok=True)
    (folder.plan(2)).write_bytes(b"")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    tables = scheduler._tables(2, 1, "policy", sampled, [source])
    planned = time.perf_counter() - began
    from star_rft.sampling.plan import read_plan, write_plan

    write_plan(folder.plan(2, 1), tables)
    units = read_plan(folder.plan(2, 1))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    requests = sum(map(len, units))
    return {
        "problems": problems, "requests": requests, "planned": planned, "seconds": seconds,
        "peak_mb": peak / 1024, "problems_mb": before / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run is not None:
        print(json.dumps(plan(args.run, args.problems)))
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import ledger_of_votes

    for problems in (args.problems // 10, args.problems):
        with tempfile.TemporaryDirectory() as folder:
            ledger_of_votes.write(Path(folder), problems=problems, each=EACH)
            command = [sys.executable, __file__, "--run", folder, "--problems", str(problems)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{problems:>10,} problems: a wave of {found['requests']:>10,} requests planned in"
            f" {found['planned']:5.2f} s,"
            f" written and read again in {found['seconds'] - found['planned']:5.2f} s; peak memory"
            f" {found['peak_mb']:,.0f} MiB, of it before planning (the problems) {found['problems_mb']:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
