"""The math verifier against math-verify, in one process pinned to one core.

    python benchmarks/verify_math.py                                        # generated data only
    python benchmarks/verify_math.py --gsm8k gsm8k/test.jsonl --cases math_cases.jsonl --json

Speed: checks a second, medians of interleaved repeats; every repeat has completions of its own, so nothing about a
completion can be remembered. References are parsed once and cached by `verifiers`, as they are in training, where
each comes back for every sample; math-verify is timed both ways: parsing the reference each time, as its users do
(TRL, open-r1), and with references parsed beforehand, off the clock. Accuracy: labelled cases (`--cases`, lines of
{gold, completion, label}) and ordinary completions in many forms, half of them wrong. The hostile set is that of
tests/verifiers/hostile.py, through workers that can be killed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import math_sets
from figures import Figure, add_json_option, write_json
from math_sets import Case

import verifiers

TESTS = Path(__file__).resolve().parent.parent / "tests" / "verifiers"
PEER = "verifiers.audit:math_verify"
WARM_UP = 20


def baseline(case: Case, gold: list[Any] | None = None) -> bool:
    """math-verify with its defaults; `gold` is the reference parsed beforehand."""
    import math_verify

    parsed = parsed_gold(case) if gold is None else gold
    return math_verify.verify(parsed, math_verify.parse(case.completion))


def parsed_gold(case: Case) -> list[Any]:
    import math_verify

    parsed: list[Any] = math_verify.parse(f"${case.reference}$")
    return parsed


def check_rate(cases: Sequence[Case]) -> float:
    """The check itself, a plain function as math-verify's are."""
    check = verifiers.get("math").function
    began = perf_counter()
    for case in cases:
        check(case.completion, case.reference)
    return len(cases) / (perf_counter() - began)


def verify_rate(cases: Sequence[Case]) -> float:
    """The public way in this process: options checked, every error caught, each verdict timed."""
    began = perf_counter()
    for case in cases:
        verifiers.verify("math", case.completion, case.reference)
    return len(cases) / (perf_counter() - began)


def baseline_rate(cases: Sequence[Case]) -> float:
    began = perf_counter()
    for case in cases:
        baseline(case)
    return len(cases) / (perf_counter() - began)


def baseline_rate_without_references(cases: Sequence[Case]) -> float:
    references = [parsed_gold(case) for case in cases]
    began = perf_counter()
    for case, gold in zip(cases, references, strict=True):
        baseline(case, gold)
    return len(cases) / (perf_counter() - began)


def worker_rate(cases: Sequence[Case]) -> float:
    """Ours through a worker process that can be killed, on the same core as this process."""
    with verifiers.Pool("math", workers=1) as pool:
        list(pool.verify_iter([("#### 5", "5")] * WARM_UP))
        began = perf_counter()
        list(pool.verify_iter((case.completion, case.reference) for case in cases))
        return len(cases) / (perf_counter() - began)


def speed(make: Callable[[int, int], list[Case]], *, ours: int, theirs: int, repeats: int) -> dict[str, list[float]]:
    """Return checks a second, one value a repeat; `make(size, seed)` draws fresh completions for every repeat."""
    rates: dict[str, list[float]] = {"check": [], "verify": [], "worker": [], "baseline": [], "baseline_parsed": []}
    ways = {"check": check_rate, "verify": verify_rate, "worker": worker_rate}
    for case in make(WARM_UP, 999):
        verifiers.verify("math", case.completion, case.reference)
        baseline(case)
    for repeat in range(repeats):
        for number, (name, run) in enumerate(ways.items()):
            cases = make(ours, 10 * repeat + number)
            for case in cases:
                verifiers.verify("math", "#### 0", case.reference)  # fills the cache of references
            rates[name].append(run(cases))
        rates["baseline"].append(baseline_rate(make(theirs, 10 * repeat + 7)))
        rates["baseline_parsed"].append(baseline_rate_without_references(make(theirs, 10 * repeat + 8)))
    return rates


def accuracy(name: str, cases: Sequence[Case]) -> dict[str, float]:
    verdicts = verifiers.verify_many(name, ((case.completion, case.reference) for case in cases))
    right = sum(v.is_correct == case.is_right for v, case in zip(verdicts, cases, strict=True))
    return {
        "cases": len(cases),
        "accuracy": right / len(cases),
        "false_positives": sum(v.is_correct and not case.is_right for v, case in zip(verdicts, cases, strict=True)),
        "false_negatives": sum(case.is_right and not v.is_correct for v, case in zip(verdicts, cases, strict=True)),
        "unknown": sum(v.status == "unknown" for v in verdicts),
    }


def labelled(path: Path) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Case(row["gold"], row["completion"], row["label"]) for row in rows]


def hostile() -> dict[str, float]:
    """The slowest of the hostile completions, and how many were taken for correct or ran what they hold."""
    from hostile import hostile_completions

    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        texts = list(hostile_completions(str(canary)).values())
        pairs = [(text, reference) for reference in ("5", r"\frac{x^2+1}{3}") for text in texts]
        verdicts = verifiers.verify_many("math", pairs)
        return {
            "inputs": len(texts),
            "max_seconds": max(v.seconds for v in verdicts),
            "correct": sum(v.is_correct for v in verdicts),
            "killed": sum(v.reason == "fault" for v in verdicts),
            "executed": int(canary.exists()),
        }


def restart_seconds() -> float:
    """Return how long after a killed hang the next verdict arrives; median of five."""
    waits = []
    with verifiers.Pool("sample_checks:obey", workers=1, timeout=1.0) as pool:
        list(pool.verify_iter([("a", "a")]))
        for _ in range(5):
            stream = pool.verify_iter([("hang", "a"), ("a", "a")])
            next(stream)
            killed = perf_counter()
            next(stream)
            waits.append(perf_counter() - killed)
    return median(waits)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    solutions = math_sets.gsm8k_solutions(arguments.gsm8k, seed=0)
    makers: dict[str, tuple[Callable[[int, int], list[Case]], int, int]] = {
        "GSM8K": (lambda size, seed: math_sets.ordinary(solutions, size=size, seed=seed), 10, 3),
        "MATH-style": (lambda size, seed: math_sets.generated(math_sets.MATH_STYLE, size=size, seed=seed), 10, 1),
        "LaTeX-heavy": (lambda size, seed: math_sets.generated(math_sets.LATEX_HEAVY, size=size, seed=seed), 5, 1),
    }
    home = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if home:
        os.sched_setaffinity(0, home[-1:])
    rates = {
        name: speed(make, ours=ours * arguments.size, theirs=theirs * arguments.size, repeats=arguments.repeats)
        for name, (make, ours, theirs) in makers.items()
    }
    if home:
        os.sched_setaffinity(0, home)
    sets = {name: make(10 * arguments.size, 77) for name, (make, _, _) in makers.items()}
    if arguments.cases:
        sets["labelled cases"] = labelled(arguments.cases)
    return {
        "machine": {"cores": len(home), "python": platform.python_version(), "math-verify": version("math-verify")},
        "checks_per_second": {
            name: {way: median(values) for way, values in found.items()} for name, found in rates.items()
        },
        "rates": rates,
        "accuracy": {
            name: {"verifiers": accuracy("math", cases), "math-verify": accuracy(PEER, cases)}
            for name, cases in sets.items()
        },
        "hostile": hostile(),
        "restart_seconds": restart_seconds(),
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "checks a second, one core   verifiers (check / verify / worker)   math-verify (as used / gold parsed)   ratio"
    ]
    for name, rates in found["checks_per_second"].items():
        ours = f"{rates['check']:,.0f} / {rates['verify']:,.0f} / {rates['worker']:,.0f}"
        theirs = f"{rates['baseline']:,.0f} / {rates['baseline_parsed']:,.0f}"
        ratio = f"{rates['check'] / rates['baseline']:.0f}x / {rates['verify'] / rates['baseline']:.0f}x"
        lines.append(f"{name:26}  {ours:>36}  {theirs:>38}  {ratio:>12}")
    lines.append(f"\n{'accuracy':26}  {'verifiers':>36}  {'math-verify':>38}")
    for name, both in found["accuracy"].items():
        cells = [
            f"{score['accuracy']:.2%} ({score['false_positives']} false positives)"
            for score in (both["verifiers"], both["math-verify"])
        ]
        lines.append(f"{name:26}  {cells[0]:>36}  {cells[1]:>38}   of {both['verifiers']['cases']:,}")
    bad = found["hostile"]
    lines.append(
        f"\nhostile: {bad['inputs']} inputs, at most {bad['max_seconds']:.2f} s each, {bad['correct']} judged correct, "
        f"{bad['killed']} killed at the limit, {bad['executed']} executed"
    )
    lines.append(f"the next answer after a killed hang: {found['restart_seconds'] * 1000:.0f} ms")
    return "\n".join(lines)


def figures(found: dict[str, Any]) -> list[Figure]:
    speeds = [
        Figure(
            f"math verification, {name}, one core",
            "checks/s",
            "more",
            rates["check"],
            {"math-verify": rates["baseline"], "math-verify, references parsed before": rates["baseline_parsed"]},
        )
        for name, rates in found["rates"].items()
    ]
    shares = [
        Figure(
            f"math verdicts that are right, {name}, {both['verifiers']['cases']:,} cases",
            "%",
            "neither",
            [100 * both["verifiers"]["accuracy"]],
            {"math-verify": [100 * both["math-verify"]["accuracy"]]},
        )
        for name, both in found["accuracy"].items()
    ]
    return speeds + shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's test.jsonl (default: made-up problems)")
    parser.add_argument("--cases", type=Path, help="labelled cases: lines of {gold, completion, label}")
    parser.add_argument("--size", type=int, default=200, help="checks of math-verify a repeat and LaTeX set")
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    arguments = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    logging.getLogger("verifiers").setLevel(logging.ERROR)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    found = measure(arguments)
    if not write_json(arguments.json, figures(found), packages=["math-verify", "sympy"], **found):
        print(table(found))


if __name__ == "__main__":
    main()
