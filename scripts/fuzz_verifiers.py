"""Look for inputs on which the math verifier crashes, is slow or contradicts itself.

    python scripts/fuzz_verifiers.py --seconds 60 --seed 0
    python scripts/fuzz_verifiers.py --seconds 600 --corpus math_cases.jsonl

Mutates a corpus of answers and completions (a small one of its own, or lines of {gold, completion}) and reports:
a check that raises; extraction or a comparison without sympy that takes over 0.1 s; an answer that is not its own
reference; a pair that is correct one way round and not the other; a mutation of digits that is still judged correct;
a shortcut that disagrees with the general way. Ends with status 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from verifiers.checks.math import matches_reference, read_reference
from verifiers.extraction.answer import extract, plain_number
from verifiers.math.compare import same_answer
from verifiers.math.latex import clean
from verifiers.math.numbers import parse_numeral

SLOW_SECONDS = 0.1
SHOWN = 40
MAX_LENGTH = 3000

ANSWERS = [
    "18", "-5", "1,234", "3.50", "1/2", r"\frac{3}{4}", r"2\frac{1}{3}", r"50\%", r"\$18.50", r"5\text{ cm}^2",
    r"45^\circ",
    r"2\sqrt{3}", r"\frac{1+\sqrt{5}}{2}", r"3\pi", r"\pm 2", r"1 \pm \sqrt{19}", "1, 2, 3", r"\{1, 2\}", "(1, 2)",
    "[0, 1)",
    r"(-\infty, 3] \cup (5, \infty)", "x > 3", r"-1 \le x < 4", "x = 5", "y = 2x + 3", "x^2 + y^2 = 4",
    "A = 18, B = 44/3",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "x^2 - 5x + 6", "(x - 2)(x - 3)", r"\frac{x+1}{x-1}",
    r"\sin 2x", r"\log_2 8",
    "3 + 4i", "10!", r"\binom{5}{2}", "2^{10}", r"6.29 \times 10^6", r"0.\overline{3}", "204_5", "3:4", "4:30 p.m.",
    r"\text{Tuesday}",
    r"\text{(B) } 12", "B", r"\emptyset", r"\mathbb{R}", "3 hours 30 minutes", "60 miles per hour",
    r"\lfloor x \rfloor", "|x|",
    "twenty-one", "two hundred and five", "3rd", "1e-7", r"t^3 + t + C", r"f(x) = x^2", "(x, y) = (1, 2)",
]  # fmt: skip
FRAMES = [
    "#### {}", "The answer is {}.", "\\boxed{{{}}}", "<answer>{}</answer>", "A: {}", "**Answer:** {}",
    "So she has {} left.",
    "$$\\boxed{{{}}}$$", "Final Answer: The final answer is ${}$. I hope it is correct.", "### Answer\n{}", "x = {}",
    "\\boxed{{{}}}\n\nWait, it should be 7.", "<think>{}</think>\n#### 5", "#### {}\n\nQuestion: How many?\n#### 3",
]  # fmt: skip
PIECES = [
    *"{}()[]|$\\^_=<>,;:.!?%&*+-/ \n0123456789abixXABe",
    "\\frac", "\\sqrt", "\\boxed{", "\\text{", "\\pm", "\\cup", "\\le", "\\infty", "\\pi", "\\%", "\\$", "####",
    "<answer>",
    " or ", " and ", "not ", "\\left(", "\\right)", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "...", "^\\circ",
    "</think>",
    "\u2212", "\u00bd", "\u00b2", "\u00d7", "\uff15", "\u221a", "\u200b", "\x01", "\x02", "\ud800",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis:
    kind: str
    inputs: tuple[str, ...]
    detail: str


def mutate(draw: random.Random, text: str) -> str:
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        at = draw.randrange(len(text) + 1)
        match draw.randrange(6):
            case 0:
                text = text[:at] + draw.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + draw.randint(1, 4) :]
            case 2:
                end = at + draw.randint(1, 12)
                text = text[:at] + text[at:end] * draw.choice((2, 2, 3, 40)) + text[end:]
            case 3:
                text = text[:at] + draw.choice(ANSWERS) + text[at:]
            case 4:
                text = text[:at]
            case _:
                end = at + draw.randint(1, 12)
                text = text[:at] + text[at:end][::-1] + text[end:]
    return text[:MAX_LENGTH]


def timed(kind: str, work: Callable[[], object], *inputs: str) -> tuple[object, Diagnosis | None]:
    began = time.process_time()
    try:
        result = work()
    except Exception:  # noqa: BLE001  # this is what a fuzzer looks for
        return None, Diagnosis(f"{kind} raises", inputs, traceback.format_exc(limit=-3))
    spent = time.process_time() - began
    return result, Diagnosis(f"{kind} is slow", inputs, f"{spent:.3f} s") if spent > SLOW_SECONDS else None


def of_a_completion(text: str) -> Iterator[Diagnosis | None]:
    """What must hold of any text at all."""
    for fallback in ("sentence", "last_number", "none"):
        _, problem = timed("extraction", lambda: extract(text, fallback=fallback), text)  # type: ignore[arg-type]  # noqa: B023
        yield problem
    plain, problem = timed("the shortcut", lambda: plain_number(text), text)
    yield problem
    if isinstance(plain, tuple):
        answer = extract(text, fallback="sentence").answer
        numeral = parse_numeral(clean(answer)) if answer else None
        if numeral is None or numeral.value != plain[1]:
            yield Diagnosis("the shortcut disagrees", (text,), f"{plain} against {answer!r}")


def of_a_pair(first: str, second: str) -> Iterator[Diagnosis | None]:
    """What must hold of any two answers."""
    a, b = clean(first)[:2000], clean(second)[:2000]
    if not a or not b:
        return
    itself, problem = timed("comparing", lambda: same_answer(a, a), a)
    yield problem
    if problem is None and itself is not True:
        yield Diagnosis("an answer is not itself", (first,), str(itself))
    one, problem = timed("comparing", lambda: same_answer(a, b), a, b)
    yield problem
    other, problem = timed("comparing", lambda: same_answer(b, a), b, a)
    yield problem
    if (one is True) != (other is True):
        yield Diagnosis("correct one way round only", (first, second), f"{one} and {other}")


def of_a_digit(draw: random.Random, answer: str) -> Iterator[Diagnosis | None]:
    """Another digit is another answer (but 0.500 is 0.5, and long decimals may be rounded)."""
    digits = [i for i, char in enumerate(answer) if char in "123456789"]
    if not digits or "." in answer or answer.count("=") > 1 or "binom" in answer:
        return
    at = draw.choice(digits)
    changed = answer[:at] + draw.choice([d for d in "123456789" if d != answer[at]]) + answer[at + 1 :]
    gold = read_reference(answer)
    if gold is not None and matches_reference(gold, changed, symbolic=False) is True:
        yield Diagnosis("another digit is still correct", (answer, changed), "")


def fuzz(corpus: list[tuple[str, str]], *, seconds: float, seed: int) -> tuple[int, list[Diagnosis]]:
    draw = random.Random(seed)
    findings: dict[tuple[str, str], Diagnosis] = {}
    deadline, tried = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        tried += 1
        answer, completion = draw.choice(corpus)
        mutated = mutate(draw, answer)
        problems = [
            *of_a_completion(mutate(draw, completion)),
            *of_a_pair(mutated, draw.choice((answer, mutate(draw, answer), mutate(draw, mutated)))),
            *of_a_digit(draw, answer),
        ]
        for problem in filter(None, problems):
            # One of a kind for each place where it happens.
            findings.setdefault((problem.kind, problem.detail.strip().rpartition("\n")[2][:60]), problem)
    return tried, list(findings.values())


def read_corpus(path: Path | None, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    corpus = [(answer, draw.choice(FRAMES).format(answer)) for answer in ANSWERS for _ in range(3)]
    if path is not None:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            corpus.append((str(row["gold"])[-300:], row["completion"][-600:]))
    return corpus


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, help="lines of {gold, completion} to mutate as well")
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.corpus, arguments.seed)
    tried, findings = fuzz(corpus, seconds=arguments.seconds, seed=arguments.seed)
    for finding in findings[:SHOWN]:
        print(f"{finding.kind}: {finding.detail}")
        for text in finding.inputs:
            print(f"    {text[:300]!r}")
    print(f"{tried} rounds, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
