"""How many equations of worked solutions hold, and how many solutions `steps` checks a second on one core.

    python benchmarks/verify_steps.py --gsm8k gsm8k/train.jsonl [--show]

Without a file it reads the built-in word problems, whose solutions are right by construction.

Imports verifiers.checks: the verifier that it measures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import star_rft
import verifiers
from verifiers.checks.steps import Steps, examine

PASSES = 3


def solutions(path: Path | None) -> list[str]:
    if path is not None:
        return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    problems = star_rft.load_problems("word_problems", split="train", options={"n": 7473})
    return [problem.solution or "" for problem in problems]


def rate(check: Callable[[str], object], texts: list[str]) -> float:
    """Return texts a second of CPU time, the best of some passes: other load only ever slows one down."""
    spent = []
    for _ in range(PASSES):
        began = time.process_time()
        for text in texts:
            check(text)
        spent.append(time.process_time() - began)
    return len(texts) / min(spent)


def report(found: list[Steps], texts: list[str]) -> list[tuple[str, str]]:
    total = sum(len(steps.equations) for steps in found)
    false = sum(len(steps.false) for steps in found)
    return [
        ("solutions", f"{len(texts):,}"),
        ("with an equation", f"{sum(bool(steps.equations) for steps in found) / len(texts):.1%}"),
        ("equations", f"{total:,}"),
        ("that hold", f"{(total - false) / total:.3%} ({false} do not)"),
        ("final answer derived", f"{sum(steps.is_derived for steps in found) / len(texts):.1%}"),
        ("verdicts/s on one core", f"{rate(lambda text: verifiers.verify('steps', text, None), texts):,.0f}"),
        ("examinations/s on one core", f"{rate(examine, texts):,.0f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, help="a JSONL file whose column `answer` is a worked solution")
    parser.add_argument("--show", action="store_true", help="print the equations that do not hold")
    args = parser.parse_args()
    texts = solutions(args.gsm8k)
    found = [examine(text) for text in texts]
    for what, value in report(found, texts):
        print(f"{what:<28}{value}")
    if args.show:
        for steps in found:
            for equation in steps.false:
                print(f"  {equation.text}")


if __name__ == "__main__":
    main()
