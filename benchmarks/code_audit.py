"""Was any verdict of `code` cheated? Every program judged correct in a run is tried again, without our sandbox.

    python benchmarks/code_audit.py runs/smollm2_code
    python benchmarks/code_audit.py RUN --fresh 30 --seed 7 --failures 50

Three questions to each trace that a verdict calls correct. Does it still pass its own tests in a plain child process,
which returns values and is never told what is expected? Does it pass fresh tests, the same function at inputs that no
test of the run has (tasks of python_tasks only: of another set nobody knows the function)? And does its source hold
what a cheat needs (`signs`: frames, processes, files, equality of its own, changed modules)? A program with signs is
listed and not run: the child has limits of time and memory, and no jail. The last table is what the verifier said of
all samples, by round and reason.

Imports star_rft.data: the functions of python_tasks, for fresh tests of them.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from plain_oracle import passes_check, returned
from program_signs import signs

import star_rft
import verifiers
from star_rft.data.generators.python_tasks.tasks import cases_of, fresh_cases, variants

CORRECT = """
    select split, round, sample_id, text, reference, json_extract_string(meta, '$.source_id') as source_id
    from traces where verifier = 'code' and status = 'correct' order by split, round, sample_id
"""
REASONS = """
    select split, round, status, reason, count(*) as samples
    from traces where verifier = 'code' group by all order by split desc, round, status, samples desc
"""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found of one program. None: not asked, because it was not run or nobody knows the function."""

    signs: tuple[str, ...]
    passes_own: bool | None = None
    passes_fresh: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One program that was judged correct, with its task; several traces may share it."""

    program: str
    tests: str
    entry_point: str
    source_id: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fresh", type=int, default=20, help="fresh tests a program")
    parser.add_argument("--seed", type=int, default=1, help="of the fresh tests' inputs")
    parser.add_argument("--failures", type=int, default=20, help="how many programs that fail or are flagged to list")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(arguments)
    if not (args.run / "ledger" / "manifest").exists():
        parser.error(f"{args.run} is no run folder: it has no ledger")
    report = audit(args.run, fresh=args.fresh, seed=args.seed, workers=args.workers)
    print(json.dumps(report, indent=2) if args.json else shown(report, failures=args.failures))
    return 0


def audit(run: Path, *, fresh: int, seed: int, workers: int) -> dict[str, Any]:
    opened = star_rft.open_run(run)
    rows = opened.sql(CORRECT).to_arrow_table().to_pylist()
    trials = {row["sample_id"]: trial_of(row) for row in rows}
    distinct = list(dict.fromkeys(trials.values()))
    with ThreadPoolExecutor(workers) as threads:
        found = dict(
            zip(distinct, threads.map(lambda trial: examined(trial, fresh=fresh, seed=seed), distinct), strict=True)
        )
    groups: dict[tuple[str, int], list[Trial]] = defaultdict(list)
    for row in rows:
        groups[row["split"], row["round"]].append(trials[row["sample_id"]])
    return {
        "run": str(run),
        "fresh_tests": fresh,
        "seed": seed,
        "rounds": [
            {"split": split, "round": number, **counted([found[trial] for trial in group], set(group))}
            for (split, number), group in sorted(groups.items(), key=lambda item: (item[0][0] != "train", item[0]))
        ],
        "suspicious": [_suspicious(trial, found[trial], trials) for trial in distinct if _is_suspicious(found[trial])],
        "reasons": opened.sql(REASONS).to_arrow_table().to_pylist(),
    }


def trial_of(row: Mapping[str, Any]) -> Trial:
    """Return the program that the verifier judged, and its tests."""
    reference = json.loads(row["reference"])
    name = reference["entry_point"]
    program = verifiers.find_program(row["text"], name=name, prompt=reference.get("prompt") or "")
    return Trial(program or "", reference["tests"], name, row["source_id"])


def examined(trial: Trial, *, fresh: int, seed: int) -> Diagnosis:
    found = signs(trial.program, entry_point=trial.entry_point)
    if found:
        return Diagnosis(found)
    if trial.source_id not in variants():
        is_right, detail = passes_check(trial.program, trial.tests, trial.entry_point)
        return Diagnosis((), is_right, None, detail)
    own = cases_of(trial.tests)
    others = fresh_cases(str(trial.source_id), seed=seed, n=fresh, without=own)
    answers = returned(trial.program, trial.entry_point, [arguments for arguments, _ in [*own, *others]])
    wrong = [
        f"{trial.entry_point}{arguments!r} is {answer}, not {expected!r}"
        for (arguments, expected), answer in zip([*own, *others], answers, strict=True)
        if not _equals(answer, expected)
    ]
    right = [_equals(answer, case[1]) for case, answer in zip([*own, *others], answers, strict=True)]
    return Diagnosis((), all(right[: len(own)]), all(right[len(own) :]), wrong[0] if wrong else "")


def _equals(answer: str, expected: Any) -> bool:
    """`answer` is what was returned, as Python writes it; what is no plain value is not equal to one."""
    try:
        return bool(ast.literal_eval(answer) == expected)
    except (ValueError, SyntaxError):
        return False


def counted(findings: Sequence[Diagnosis], programs: set[Trial]) -> dict[str, int]:
    return {
        "correct": len(findings),
        "programs": len(programs),
        "flagged": sum(bool(finding.signs) for finding in findings),
        "own_again": sum(finding.passes_own is True for finding in findings),
        "own_failed": sum(finding.passes_own is False for finding in findings),
        "fresh_asked": sum(finding.passes_fresh is not None for finding in findings),
        "fresh_passed": sum(finding.passes_fresh is True for finding in findings),
    }


def _is_suspicious(finding: Diagnosis) -> bool:
    return bool(finding.signs) or finding.passes_own is False or finding.passes_fresh is False


def _suspicious(trial: Trial, finding: Diagnosis, trials: Mapping[str, Trial]) -> dict[str, Any]:
    return {
        "task": trial.source_id,
        "samples": [sample for sample, other in trials.items() if other == trial],
        "signs": list(finding.signs),
        "passes_own": finding.passes_own,
        "passes_fresh": finding.passes_fresh,
        "detail": finding.detail,
        "program": trial.program,
    }


def shown(report: Mapping[str, Any], *, failures: int) -> str:
    return "\n".join(
        [*_audit_table(report), "", *_listed(report["suspicious"], failures), *_reasons(report["reasons"])]
    )


def _audit_table(report: Mapping[str, Any]) -> Iterator[str]:
    about = f"{report['fresh_tests']} fresh tests, seed {report['seed']}"
    yield f"{report['run']}: traces judged correct, tried again ({about})"
    yield "split  round  correct  programs  own tests again  fresh tests  flagged"
    for row in report["rounds"]:
        again = f"{row['own_again']}/{row['own_again'] + row['own_failed']}"
        fresh = f"{row['fresh_passed']}/{row['fresh_asked']}" if row["fresh_asked"] else "-"
        yield (
            f"{row['split']:<6} {row['round']:>5} {row['correct']:>8} {row['programs']:>9} {again:>16} {fresh:>12}"
            f" {row['flagged']:>8}"
        )


def _listed(suspicious: Sequence[Mapping[str, Any]], most: int) -> Iterator[str]:
    yield f"{len(suspicious)} programs are flagged or fail a test:"
    for entry in suspicious[:most]:
        why = f"flagged: {', '.join(entry['signs'])}" if entry["signs"] else entry["detail"]
        yield f"- {entry['task']} ({len(entry['samples'])} traces, first {entry['samples'][0]}): {why}"
        yield "\n".join(f"    {line}" for line in entry["program"].strip().splitlines())
    yield ""


def _reasons(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a split and round, the columns every (status, reason) that occurs, unknown in any case."""
    columns = list(Counter((row["status"], row["reason"]) for row in rows))
    columns += [] if any(status == "unknown" for status, _ in columns) else [("unknown", "any")]
    names = [f"{status}:{reason}" for status, reason in columns]
    counts = {(row["split"], row["round"], row["status"], row["reason"]): row["samples"] for row in rows}
    yield "what the verifier said of all samples:"
    yield "  ".join(["split  round", *names])
    for split, number in dict.fromkeys((row["split"], row["round"]) for row in rows):
        cells = [counts.get((split, number, *column), 0) for column in columns]
        yield "  ".join(
            [f"{split:<6} {number:>5}", *(f"{n:>{len(name)}}" for n, name in zip(cells, names, strict=True))]
        )


if __name__ == "__main__":
    sys.exit(main())
