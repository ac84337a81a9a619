"""How well wrong reference answers are found on real runs of the quickstart; how fast a million problems are classed.

    python benchmarks/label_errors.py --seeds 3 4 5 none    # samples what is not there yet
    python benchmarks/label_errors.py --scale
    python benchmarks/label_errors.py --train --seeds 0 1 --share 0.05                       # minutes a run
    python benchmarks/label_errors.py --train --seeds 0 --share 0.25 --plan adaptive --conditions corrupted held-out

A share of the 500 training references is replaced by plausible wrong numbers, in turn the answer plus or minus a few, a
number of the question, and an intermediate result; the reference solution ends in the wrong number too. The loop runs
on that with 16 samples a problem, and the problems are classed after each round. Seed `none` is the data as it is:
every flag is then a false alarm. The statistic was chosen on seeds 0 to 2. `recall, half` is of the wrong references
whose right answer at least half of the round's samples give. Round 1 is the same base model's for all seeds.

`--train` asks what quarantine is worth. All reference solutions are mixed in, and a seed draws the harm, the
samples and the training: of the clean rows; of `corrupted` ones with label errors kept; of the same with label errors
`held-out`; and, if asked for, of those with just the wrong ones `left-out`, about the most that holding out can do.
An interval resamples the held-out problems, the seeds' mean of each; what another seed would change, the seeds' own
figures beside it tell. `so far`: flags of this or an earlier round. Tokens are of the wrong references' problems, then
of those flagged after the round before (of round 1: none), each with its share of the round's.

Imports star_rft.frontier, star_rft.ledger: the classes, which --scale measures.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import star_rft

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "star_rft" / "configs" / "quickstart.yaml"
PROBLEMS, SAMPLES, SHARE = 500, 16, 0.05
# Nothing is measured on held-out problems here, so few are sampled; training does not depend on them.
OVERRIDES = {"sample.n": SAMPLES, "eval.n": 1, "eval.k": [1], "data.train.options": {}, "data.dev.options.n": 20}
# Only the base and the last round are evaluated. No round is rolled back, so that all conditions train as often.
TRAINING = {
    "sample.n": SAMPLES,
    "data.train.options": {},
    "data.dev.options.n": 400,
    "gate": None,
    "eval.n": 8,
    "eval.greedy": False,
    "eval.kl_traces": 0,
    "eval.every": 1000,
}
# What is done with suspected label errors under each condition.
CONDITIONS = {"clean": "keep", "corrupted": "keep", "held-out": "quarantine", "left-out": "keep"}


def rows_of(seed: int | None, *, share: float = SHARE) -> list[dict[str, Any]]:
    """The quickstart's training rows; `true` is the right answer of those whose reference was replaced, else None."""
    options = {"n": PROBLEMS, "seed": 1, "steps": [1, 7]}
    problems = star_rft.load_problems("word_problems", split="train", options=options)
    rows: list[dict[str, Any]] = [
        {"question": p.prompt, "answer": p.solution, "steps": p.meta["steps"], "true": None} for p in problems
    ]
    if seed is None:
        return rows
    rng = random.Random(f"suspects {seed}")
    for turn, index in enumerate(rng.sample(range(PROBLEMS), round(share * PROBLEMS))):
        rows[index] = corrupted(rows[index], kind=turn % 3, rng=rng)
    return rows


def corrupted(row: dict[str, Any], *, kind: int, rng: random.Random) -> dict[str, Any]:
    """Replace the answer, in the last equation as well, by a number that a person could have written."""
    chain, _, true = row["answer"].rpartition("\n#### ")
    near = [int(true) + d for d in (-3, -2, -1, 1, 2, 3) if int(true) + d > 0]
    found = re.findall(r"\d+", row["question"]) if kind == 1 else re.findall(r"= (\d+)", chain) if kind == 2 else []
    wrong = rng.choice([number for number in found if number != true] or list(map(str, near)))
    solution = re.sub(rf"= {true}(?!.*= )", f"= {wrong}", chain, flags=re.DOTALL)
    return row | {"answer": f"{solution}\n#### {wrong}", "true": true}


def sampled(folder: Path, seed: int | None) -> Path:
    """Run the loop on a seed's rows, or go on with it; a finished run is not sampled again."""
    run = folder / f"seed-{'none' if seed is None else seed}"
    rows = [{name: value for name, value in row.items() if name != "true"} for row in rows_of(seed)]
    for report in star_rft.run(str(CONFIG), OVERRIDES | {"run_dir": str(run)}, data={"train": rows}):
        print(f"{run.name}: round {report.round}, {report.correct} of {report.samples} correct", file=sys.stderr)
    return run


def found(run: Path, seed: int | None) -> list[Counter[str]]:
    """Count the problems that the loop classed as label errors after each round: a counter a round."""
    opened = star_rft.open_run(run)
    true_by_question = {row["question"]: row["true"] for row in rows_of(seed)}
    problems = opened.sql("select problem_id, prompt from problems where split = 'train'").fetchall()
    true_answers = {problem: true for problem, prompt in problems if (true := true_by_question[prompt]) is not None}
    rounds = []
    for round_index in range(1, opened.reports[-1].round + 1):
        flagged = label_errors(opened, round_index)
        cast = opened.sql(
            "select problem_id, answer, count(*) from traces where split = 'train' and round = $r group by all",
            r=round_index,
        ).fetchall()
        votes = {(problem, answer): count for problem, answer, count in cast}
        held = {problem for problem, true in true_answers.items() if 2 * votes.get((problem, true), 0) >= SAMPLES}
        rounds.append(
            Counter(
                flagged=len(flagged),
                right=len(flagged & true_answers.keys()),
                label_errors=len(true_answers),
                held=len(held),
                held_flagged=len(held & flagged),
            )
        )
    return rounds


def label_errors(run: star_rft.Run, round_index: int) -> set[str]:
    """Return the problems whose class is label_error after a round."""
    query = "select problem_id from frontier where in_round = $r and class = 'label_error'"
    return {problem for (problem,) in run.sql(query, r=round_index).fetchall()}


def line(name: str, counts: Counter[str]) -> str:
    alarms = counts["flagged"] - counts["right"]
    return (
        f"{name:<22} {alarms:>6} {share_of(counts, 'right', 'flagged'):>16}"
        f" {share_of(counts, 'right', 'label_errors'):>16} {share_of(counts, 'held_flagged', 'held'):>16}"
    )


def share_of(counts: Counter[str], part: str, whole: str) -> str:
    share = f"{counts[part] / counts[whole]:>5.0%}" if counts[whole] else "    -"
    return f"{counts[part]:>4}/{counts[whole]:<4}{share}"


def measure(folder: Path, seeds: Sequence[int | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    runs = {seed: found(sampled(folder, seed), seed) for seed in seeds}
    print(f"{'':<22} {'false':>6} {'precision':>16} {'recall':>16} {'recall, half':>16}")
    for seed, rounds in runs.items():
        for round_index, counts in enumerate(rounds, start=1):
            what = f"seed {seed}" if seed is not None else "unharmed"
            print(line(f"{what}, round {round_index}", counts))
    harmed = [rounds for seed, rounds in runs.items() if seed is not None]
    for round_index in range(len(harmed[0]) if harmed else 0):
        print(line(f"all seeds, round {round_index + 1}", sum((rounds[round_index] for rounds in harmed), Counter())))
    print(line("all seeds and rounds", sum((counts for rounds in harmed for counts in rounds), Counter())))


# What holding them out is worth


def worth(
    folder: Path,
    seeds: Sequence[int],
    names: Sequence[str],
    *,
    share: float,
    plan: str,
    rounds: int,
    references: float,
    start: str,
) -> None:
    """Train each condition on each seed, and compare how the last round's models do on dev."""
    runs = {
        (name, seed): trained(
            folder, name, seed, share=share, plan=plan, rounds=rounds, references=references, start=start
        )
        for seed in seeds
        for name in names
    }
    settings = f"plan {plan}, references {references:g}, from {start}, seeds {' '.join(map(str, seeds))}"
    print(f"{share:.0%} wrong, {settings}; dev after round {rounds}")
    pass_rate_S_P = {name: np.array([pass_rates(runs[name, seed], rounds) for seed in seeds]) for name in names}
    print(f"{'pass@1':<24} {'mean [95% interval]':<26} a seed")
    for name, rate_S_P in pass_rate_S_P.items():
        print(f"{name:<24} {star_rft.bootstrap(rate_S_P.mean(axis=0))!s:<26} {each(rate_S_P.mean(axis=1), '.3f')}")
    for before, after in combinations(names, 2):
        gain = star_rft.paired(pass_rate_S_P[after].mean(axis=0), pass_rate_S_P[before].mean(axis=0))
        gain_S = (pass_rate_S_P[after] - pass_rate_S_P[before]).mean(axis=1)
        print(f"{f'{after} - {before}':<24} {gain!s:<26} {each(gain_S, '+.3f')}")
    print(
        f"\n{'sum of seeds':<20} {'false':>6} {'precision':>16} {'recall':>16} {'so far, false':>14} {'recall':>16}"
        f" {'tokens, wrong':>18} {'tokens, flagged':>18}"
    )
    for name in (name for name in names if name in ("corrupted", "held-out")):
        by_seed = [spent(runs[name, seed], rows_of(seed, share=share), rounds) for seed in seeds]
        for round_index in range(rounds):
            counts = sum((found[round_index] for found in by_seed), Counter())
            print(spent_line(f"{name}, round {round_index + 1}", counts))


def trained(
    folder: Path, name: str, seed: int, *, share: float, plan: str, rounds: int, references: float, start: str
) -> Path:
    """Run one condition, or go on with it; a finished run is only read."""
    kind = f"{plan}-references-{references:g}" + ("" if start == "last" else f"-{start}")
    run = folder / kind / f"seed-{seed}-{'clean' if name == 'clean' else f'{share:g}-{name}'}"
    harmed = rows_of(None if name == "clean" else seed, share=share)
    kept = [row for row in harmed if name != "left-out" or row["true"] is None]
    rows = [{column: value for column, value in row.items() if column != "true"} for row in kept]
    changes = {"run_dir": str(run), "seed": seed, "rounds": rounds, "budget.plan": plan, "train.from": start}
    changes |= {"select.reference_solutions": references, "select.label_errors": CONDITIONS[name]}
    for report in star_rft.run(str(CONFIG), TRAINING | changes, data={"train": rows}):
        took = sum(report.seconds.values())
        print(f"{run.name}: round {report.round}, pass@1 {report.pass_at_1}, {took:.0f} s", file=sys.stderr, flush=True)
    return run


def pass_rates(run: Path, round_index: int) -> list[float]:
    """Return the share of correct samples of each dev problem, in the order of their ids; none is drawn greedily."""
    query = f"""
        select avg((status = 'correct')::int) from traces where split = 'dev' and round = {round_index}
        group by problem_id order by problem_id"""
    return [rate for (rate,) in star_rft.open_run(run).sql(query).fetchall()]


def spent(run: Path, rows: Sequence[dict[str, Any]], rounds: int) -> list[Counter[str]]:
    """Count, a round each, what was flagged as the loop itself saw it, and the tokens that flagged problems took."""
    opened = star_rft.open_run(run)
    true_by_question = {row["question"]: row["true"] for row in rows}
    problems = opened.sql("select problem_id, prompt from problems where split = 'train'").fetchall()
    wrong = {problem for problem, prompt in problems if true_by_question[prompt] is not None}
    before: set[str] = set()
    so_far: set[str] = set()
    counted = []
    for round_index in range(1, rounds + 1):
        flagged = label_errors(opened, round_index)
        so_far |= flagged
        tokens = dict(
            opened.sql(
                "select problem_id, sum(tokens)::int from samples where split = 'train' and round = $r group by all",
                r=round_index,
            ).fetchall()
        )
        counted.append(
            Counter(
                label_errors=len(wrong),
                flagged=len(flagged),
                right=len(flagged & wrong),
                so_far=len(so_far),
                so_far_right=len(so_far & wrong),
                tokens=sum(tokens.values()),
                tokens_wrong=sum(tokens.get(problem, 0) for problem in wrong),
                tokens_flagged=sum(tokens.get(problem, 0) for problem in before),
            )
        )
        before = flagged
    return counted


def spent_line(name: str, counts: Counter[str]) -> str:
    def tokens(part: str) -> str:
        return f"{counts[part]:>11,} {counts[part] / counts['tokens']:>6.1%}"

    return (
        f"{name:<20} {counts['flagged'] - counts['right']:>6} {share_of(counts, 'right', 'flagged'):>16}"
        f" {share_of(counts, 'right', 'label_errors'):>16} {counts['so_far'] - counts['so_far_right']:>14}"
        f" {share_of(counts, 'so_far_right', 'label_errors'):>16} {tokens('tokens_wrong')}"
        f" {tokens('tokens_flagged')}"
    )


def each(values: Sequence[float] | Floats, form: str) -> str:
    return " ".join(format(float(value), form) for value in values)


# A million problems


def scale(*, problems: int, each: int) -> None:
    """Class many problems, and a tenth of them, each in a process of its own."""
    import ledger_of_votes

    for count in (problems // 10, problems):
        with tempfile.TemporaryDirectory() as folder:
            ledger_of_votes.write(Path(folder), problems=count, each=each)
            done = subprocess.run(
                [sys.executable, __file__, "--classify", folder], check=True, capture_output=True, text=True
            )
        figures = json.loads(done.stdout)
        print(
            f"{count:>10,} problems, {count * each:>10,} traces: classed in {figures['seconds']:6.2f} s,"
            f" peak memory {figures['peak_mb']:,.0f} MiB; {figures['classes']}"
        )


def timed_classes(folder: Path) -> dict[str, Any]:
    from star_rft.frontier.classes import classify
    from star_rft.ledger import Ledger

    ledger = Ledger(folder)
    began = time.perf_counter()
    table = classify(ledger.connect(), through_round=2)
    seconds = time.perf_counter() - began
    counted = table["class"].value_counts().to_pylist()
    return {
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "classes": ", ".join(sorted(f"{row['values']} {row['counts']:,}" for row in counted)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", default=["3", "4", "5", "none"], help="seeds of the harm; none: no harm")
    parser.add_argument("--folder", type=Path, help="where the runs are kept, /tmp/suspects or /tmp/suspect-train")
    parser.add_argument("--train", action="store_true", help="what quarantine is worth")
    parser.add_argument("--share", type=float, default=SHARE, help="of the references: the wrong ones of --train")
    parser.add_argument("--plan", choices=["fixed", "uniform", "prop2diff", "adaptive"], default="fixed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=["clean", "corrupted", "held-out"])
    parser.add_argument("--references", type=float, default=1.0, help="share of reference solutions for --train")
    parser.add_argument("--start", choices=["last", "base"], default="last", help="where a round of --train begins")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=4, help="samples a problem")
    parser.add_argument("--classify", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.classify:
        print(json.dumps(timed_classes(args.classify)))
    elif args.scale:
        scale(problems=args.problems, each=args.each)
    elif args.train:
        settings = {"share": args.share, "plan": args.plan, "rounds": args.rounds, "references": args.references}
        settings["start"] = args.start
        folder = args.folder or Path("/tmp/suspect-train")
        worth(folder, [int(seed) for seed in args.seeds if seed != "none"], args.conditions, **settings)
    else:
        measure(args.folder or Path("/tmp/suspects"), [None if seed == "none" else int(seed) for seed in args.seeds])
    return 0


if __name__ == "__main__":
    sys.exit(main())
