"""How fast a run of a million traces can be looked at: its report, and every kind of view of the viewer.

    python benchmarks/looking.py                     # 1,000,000 traces of 50,000 problems in 4 rounds, 45,000 held out
    python benchmarks/looking.py --traces 100000 --problems 5000 --keep /tmp/looked

The run is made (benchmarks/looking_run.py) in a temporary folder, or in --keep, where it stays and is used again. The
report is written by `write_page` and the viewer is `star-rft view`, each in a process of its own whose peak memory is
the kernel's (VmHWM). Views are asked for over HTTP, one after the other; a row is of several views of one kind.

Imports star_rft.report, star_rft.viewer: the page and the viewer that it measures.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 4
SECONDS, MEMORY_MB, PAGE_MB = 60, 2048, 15
VIEW_SECONDS = 1.0

# Ids and the numbers of the last pages are filled in from the run itself.
VIEWS = {
    "all problems": ["/", "/?sort=samples", "/?sort=solved", "/?sort=id"],
    "all traces": ["/?by=trace", "/?by=trace&sort=samples", "/?by=trace&sort=solved"],
    "last pages": ["/?page=999999", "/?by=trace&page=999999", "/?by=trace&status=correct&page=999999"],
    "verdict": ["/?status=unknown", "/?status=incorrect", "/?status=correct", "/?by=trace&status=incorrect"],
    "reason": ["/?reason=mismatch", "/?reason=truncated", "/?by=trace&reason=undecided"],
    "class": ["/?class=no_survivors", "/?class=solved", "/?by=trace&class=learnable"],
    "kept or dropped": ["/?why=selected", "/?why=duplicate", "/?why=over_cap", "/?by=trace&why=none"],
    "round, split": ["/?round=3", "/?by=trace&round=1", "/?split=dev", "/?split=train"],
    "flagged, invalid step": ["/?flag=any", "/?flag=underived", "/?by=trace&invalid_step=yes"],
    "hinted, group": ["/?hinted=yes", "/?group=3", "/?by=trace&group=7&hinted=yes"],
    "three filters": ["/?status=incorrect&round=4&class=hard", "/?by=trace&why=duplicate&group=2&round=2"],
    "text, rare": ["/?q=with+those+of+number+4711,", "/?by=trace&q=number+123,", "/?q=%23%23%23%23+1007"],
    "text, common": ["/?q=the+morning", "/?by=trace&q=e", "/?q=Then+there+are"],
    "text, in problems": ["/?q=tourists", "/?by=trace&q=by+noon"],
    "text, absent": ["/?q=no+such+words", "/?by=trace&q=%25"],
    "text and filters": ["/?q=tickets&status=incorrect&round=2", "/?by=trace&q=TABLE&why=selected&class=hard"],
    "text, again": ["/?q=with+those+of+number+4711,", "/?by=trace&q=e&page=2"],
    "one problem": ["/problem/{a}", "/problem/{b}", "/problem/{c}"],
    "one problem, filtered": ["/problem/{a}?status=incorrect", "/problem/{b}?q=morning&round=2"],
    "one trace": ["/trace/{t}", "/trace/{t}?status=correct"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the run is made once and stays")
    parser.add_argument("--only", choices=["report", "view"], help="one of the two")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.make:
        from looking_run import write_run

        write_run(args.make.resolve(), traces=args.traces, problems=args.problems, rounds=ROUNDS)
        return 0
    if args.report:
        print(json.dumps(written(args.report)))
        return 0
    with nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory() as kept:
        run = Path(kept) / f"run-{args.traces}-{args.problems}"
        if not (run / "rounds" / f"{ROUNDS:03d}" / "metrics.json").exists():
            began = time.perf_counter()
            make(run, args.traces, args.problems)
            print(f"made {args.traces:,} traces of {args.problems:,} problems in {time.perf_counter() - began:.0f} s\n")
        if args.only != "view":
            report(run)
        if args.only != "report":
            view(run, args.repeats)
    return 0


def make(run: Path, traces: int, problems: int) -> None:
    """In a process of its own, so that its memory is given back."""
    command = [sys.executable, __file__, "--make", str(run), "--traces", str(traces), "--problems", str(problems)]
    subprocess.run(command, check=True, cwd=ROOT, env=_environment())


def report(run: Path) -> None:
    command = [sys.executable, __file__, "--report", str(run)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=_environment()).stdout)
    print(
        f"report: {found['seconds']:.1f} s (at most {SECONDS}), peak memory {found['peak_mb']:,.0f} MiB (at most"
        f" {MEMORY_MB:,}), {found['bytes'] / 1e6:.1f} MB (at most {PAGE_MB})\n"
    )


def written(run: Path) -> dict[str, float]:
    from star_rft.report.page import write_page

    began = time.perf_counter()
    path = write_page(run)
    return {
        "seconds": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bytes": path.stat().st_size,
    }


def view(run: Path, repeats: int) -> None:
    """Start the viewer, ask for each view `repeats` times, and say how long it took and how much memory."""
    import httpx

    import star_rft

    opened = star_rft.open_run(run)
    a, b, c = (
        name for (name,) in opened.sql("select problem_id from problems where split = 'train' limit 3").fetchall()
    )
    ((t,),) = opened.sql("select sample_id from samples where split = 'train' limit 1 offset 12345").fetchall()
    began = time.perf_counter()
    with viewer(run) as (address, process):
        print(f"viewer: open {time.perf_counter() - began:.1f} s after the command, {memory(process):,.0f} MiB")
        print(f"{'':<24} {'views':>6} {'median':>9} {'slowest':>9}  slowest view")
        slowest = 0.0
        with httpx.Client(follow_redirects=True, timeout=60) as client:
            for kind, paths in VIEWS.items():
                times = []
                for path in paths * repeats:
                    if "q=" in path and kind != "text, again":
                        forget(client, address)
                    times.append((timed(client, address + path.format(a=a, b=b, c=c, t=t)), path))
                worst, path = max(times)
                slowest = max(slowest, worst)
                median = statistics.median(seconds for seconds, _ in times)
                print(f"{kind:<24} {len(times):>6} {1000 * median:>6.0f} ms {1000 * worst:>6.0f} ms  {path}")
        peak = memory(process, "VmHWM")
    print(
        f"slowest of all {slowest:.2f} s (at most {VIEW_SECONDS:.0f}),"
        f" peak memory {peak:,.0f} MiB (at most {MEMORY_MB:,})"
    )


def forget(client: Any, address: str) -> None:
    """Search for enough other texts that the viewer no longer remembers those that are timed."""
    from star_rft.viewer.index import SEARCHES

    for number in range(SEARCHES):
        client.get(f"{address}/?q=nothing+of+that+kind+{number}")


def timed(client: Any, url: str) -> float:
    began = time.perf_counter()
    answer = client.get(url)
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        raise SystemExit(f"{url}: {answer.status_code}: {answer.text[-500:]}")
    return seconds


@contextmanager
def viewer(run: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "star_rft.cli", "view", str(run), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+(?=/)", process.stdout.readline())
        if found is None:
            raise SystemExit("the viewer did not start")
        yield found[0], process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def memory(process: subprocess.Popen[str], field: str = "VmRSS") -> float:
    """Return a process's memory in MiB, now or (VmHWM) at its peak."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}


if __name__ == "__main__":
    sys.exit(main())
