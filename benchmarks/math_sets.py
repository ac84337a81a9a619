r"""Questions' answers for `verify_math.py`: a reference, a completion, and whether they are the same.

MATH itself may not be shipped here, so answers like its own are generated from a seed: fractions, radicals,
intervals, tuples, polynomials, trigonometry, matrices. A right answer is written in another form than the
reference, a wrong one is off by a sign, a digit or a term.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, gcd
from pathlib import Path

Draw = random.Random
# reference, the same in another form, a near miss
Triple = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Case:
    reference: str
    completion: str
    is_right: bool


def number(draw: Draw) -> Triple:
    n = draw.randint(2, 9999)
    return (
        str(n),
        draw.choice([f"{n:,}", f"{n}.0", f"x = {n}", rf"{n}\text{{ ways}}"]),
        str(n + draw.choice([-1, 1, 10])),
    )


def fraction(draw: Draw) -> Triple:
    a, b = draw.randint(1, 99), draw.randint(2, 99)
    value = Fraction(a, b)
    p, q, k = value.numerator, value.denominator, draw.randint(2, 9)
    other = draw.choice(
        [f"{p}/{q}", rf"\dfrac{{{p}}}{{{q}}}", rf"\frac{{{p * k}}}{{{q * k}}}", rf"-\frac{{{-p}}}{{{q}}}"]
    )
    return rf"\frac{{{p}}}{{{q}}}", other, rf"\frac{{{p + 1}}}{{{q}}}"


def radical(draw: Draw) -> Triple:
    k, n = draw.randint(2, 12), draw.choice([2, 3, 5, 6, 7, 10, 11, 13])
    other = draw.choice([rf"\sqrt{{{k * k * n}}}", rf"\frac{{{k * n}}}{{\sqrt{{{n}}}}}", rf"\sqrt{{{n}}} \cdot {k}"])
    return (
        rf"{k}\sqrt{{{n}}}",
        other,
        draw.choice([rf"{k + 1}\sqrt{{{n}}}", rf"{k}\sqrt{{{n + 1}}}", rf"\sqrt{{{k * n}}}"]),
    )


def surd(draw: Draw) -> Triple:
    a, b, n, d = draw.randint(1, 9), draw.randint(1, 9), draw.choice([2, 3, 5, 7]), draw.randint(2, 9)
    return (
        rf"\frac{{{a}+{b}\sqrt{{{n}}}}}{{{d}}}",
        rf"\frac{{{a}}}{{{d}}}+\frac{{{b}}}{{{d}}}\sqrt{{{n}}}",
        rf"\frac{{{a}-{b}\sqrt{{{n}}}}}{{{d}}}",
    )


def multiple_of_pi(draw: Draw) -> Triple:
    a, b = draw.randint(1, 30), draw.randint(2, 12)
    return rf"\frac{{{a}\pi}}{{{b}}}", rf"{a}\pi/{b}", rf"\frac{{{a}\pi}}{{{b + 1}}}"


def interval(draw: Draw) -> Triple:
    a = draw.randint(-9, 4)
    b = a + draw.randint(1, 9)
    reference, same, other = draw.choice(
        [
            (f"[{a},{b})", rf"{a} \le x < {b}", f"({a},{b})"),
            (rf"(-\infty,{a}]\cup({b},\infty)", rf"x \le {a} \text{{ or }} x > {b}", rf"(-\infty,{a})\cup({b},\infty)"),
            (rf"({a},\infty)", f"x > {a}", rf"[{a},\infty)"),
        ]
    )
    return reference, same, other


def pair(draw: Draw) -> Triple:
    a, b, c = draw.randint(-9, 9), draw.randint(1, 9), draw.randint(2, 9)
    return rf"\left({a}, \frac{{{b}}}{{{c}}}\right)", f"({a},{b}/{c})", rf"\left(\frac{{{b}}}{{{c}}}, {a + 20}\right)"


def roots(draw: Draw) -> Triple:
    a, b = draw.sample(range(-15, 16), 2)
    return (
        f"{a}, {b}",
        draw.choice([f"x = {b} \\text{{ or }} x = {a}", f"{b},{a}", rf"\{{{b}, {a}\}}"]),
        f"{a}, {b + 1}",
    )


def polynomial(draw: Draw) -> Triple:
    a, b = draw.randint(1, 9), draw.randint(1, 9)
    expanded = f"x^2+{a + b}x+{a * b}"
    return expanded, draw.choice([f"(x+{a})(x+{b})", f"{a * b}+{a + b}x+x^2"]), f"(x+{a})(x-{b})"


def line(draw: Draw) -> Triple:
    m, c = draw.randint(2, 9), draw.randint(1, 9)
    return f"y = {m}x + {c}", f"{m}x - y + {c} = 0", f"y = {m}x - {c}"


def complex_number(draw: Draw) -> Triple:
    a, b = draw.randint(1, 20), draw.randint(2, 20)
    return f"{a}+{b}i", f"{b}i+{a}", f"{a}-{b}i"


def power(draw: Draw) -> Triple:
    base, n = draw.choice([2, 3, 5]), draw.randint(5, 40)
    return f"{base}^{{{2 * n}}}", f"{base**2}^{{{n}}}", f"{base}^{{{2 * n + 1}}}"


def words(draw: Draw) -> Triple:
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    right, wrong = draw.sample(days, 2)
    return rf"\text{{{right}}}", right, rf"\text{{{wrong}}}"


def percentage(draw: Draw) -> Triple:
    n = draw.randint(1, 99)
    return rf"{n}\%", draw.choice([str(n), rf"{n}.0\%", rf"\frac{{{n}}}{{100}}"]), rf"{n + 1}\%"


MATH_STYLE: Sequence[Callable[[Draw], Triple]] = (
    number, number, number, fraction, fraction, radical, surd, multiple_of_pi, interval, pair, roots, polynomial, line,
    complex_number, power, words, percentage,
)  # fmt: skip


def nested_radical(draw: Draw) -> Triple:
    a, b = draw.sample([2, 3, 5, 6, 7, 10, 11], 2)
    return (
        rf"\sqrt{{{a + b}+2\sqrt{{{a * b}}}}}",
        rf"\sqrt{{{a}}}+\sqrt{{{b}}}",
        rf"\sqrt{{{a + b}-2\sqrt{{{a * b}}}}}",
    )


def matrix(draw: Draw) -> Triple:
    entries = [draw.randint(-9, 9) for _ in range(9)]
    rows = [entries[i : i + 3] for i in (0, 3, 6)]

    def typeset(rows: list[list[int]], kind: str) -> str:
        return rf"\begin{{{kind}}}" + r" \\ ".join(" & ".join(map(str, row)) for row in rows) + rf"\end{{{kind}}}"

    wrong = [[*rows[0][:2], rows[0][2] + 1], *rows[1:]]
    return typeset(rows, "pmatrix"), typeset(rows, "bmatrix"), typeset(wrong, "pmatrix")


def expansion(draw: Draw) -> Triple:
    n, a = draw.randint(3, 5), draw.randint(1, 4)
    terms = "+".join(f"{comb(n, k) * a**k}x^{{{n - k}}}" for k in range(n + 1))
    return f"(x+{a})^{{{n}}}", terms, terms.replace(f"{comb(n, 1) * a}x", f"{comb(n, 1) * a + 1}x", 1)


def rational_function(draw: Draw) -> Triple:
    a, b = draw.sample(range(1, 9), 2)
    return (
        rf"\frac{{1}}{{x+{a}}}+\frac{{1}}{{x+{b}}}",
        rf"\frac{{2x+{a + b}}}{{(x+{a})(x+{b})}}",
        rf"\frac{{2x+{a + b + 1}}}{{(x+{a})(x+{b})}}",
    )


def trigonometric(draw: Draw) -> Triple:
    k = draw.randint(2, 5)
    return draw.choice(
        [
            (rf"\sin({2 * k}x)", rf"2\sin({k}x)\cos({k}x)", rf"2\sin({k}x)\cos({k + 1}x)"),
            (rf"\cos^2({k}x)-\sin^2({k}x)", rf"\cos({2 * k}x)", rf"\sin({2 * k}x)"),
            (rf"{k}\tan^2 x+{k}", rf"{k}\sec^2 x", rf"{k}\sec^2 x+1"),
        ]
    )


def logarithm(draw: Draw) -> Triple:
    a, n = draw.choice([2, 3, 5, 7]), draw.randint(2, 6)
    return rf"\ln {a**n}", rf"{n}\ln {a}", rf"{n + 1}\ln {a}"


def plane(draw: Draw) -> Triple:
    a, b, c, d = (draw.randint(1, 30) for _ in range(4))
    return f"{a}x+{b}y-{c}z+{d}=0", f"-{a}x-{b}y+{c}z-{d}=0", f"{a}x+{b}y-{c}z-{d}=0"


def antiderivative(draw: Draw) -> Triple:
    a, b = draw.randint(2, 9), draw.randint(2, 9)
    k = gcd(a, b)
    return (
        rf"\frac{{{a}}}{{{b}}}x^{{{b}}}-\frac{{1}}{{{a}}}\cos({a}x)+C",
        rf"C-\frac{{\cos({a}x)}}{{{a}}}+\frac{{{a // k}x^{{{b}}}}}{{{b // k}}}",
        rf"\frac{{{a}}}{{{b}}}x^{{{b}}}+\frac{{1}}{{{a}}}\cos({a}x)+C",
    )


def conjugate_pair(draw: Draw) -> Triple:
    a, n = draw.randint(1, 9), draw.choice([2, 3, 5, 7])
    return (
        rf"\frac{{{a} \pm \sqrt{{{n}}}}}{{2}}",
        rf"\frac{{{a}+\sqrt{{{n}}}}}{{2}}, \frac{{{a}-\sqrt{{{n}}}}}{{2}}",
        rf"\frac{{{a}+\sqrt{{{n}}}}}{{2}}",
    )


LATEX_HEAVY: Sequence[Callable[[Draw], Triple]] = (
    nested_radical, surd, matrix, expansion, rational_function, trigonometric, logarithm, plane, antiderivative,
    conjugate_pair, interval, pair,
)  # fmt: skip

_REASONING = (
    "We start from what is given, so that $a^2 + b^2 = {0}$ and $ab = {1}$. Substituting the second "
    "into the first gives ${0} - 2 \\cdot {1} = (a-b)^2$.\n\nCollecting terms we get "
)
_BOXES = (
    "\\[\n\\boxed{{{}}}\n\\]",
    "$\\boxed{{{}}}$.",
    "the value asked for.\n\nThe final answer is $\\boxed{{{}}}$.",
    "\\(\\boxed{{{}}}\\), as claimed.",
)


def generated(kinds: Sequence[Callable[[Draw], Triple]], *, size: int, seed: int) -> list[Case]:
    """Return `size` boxed completions, half of them right; no two are the same text."""
    draw = random.Random(seed)
    cases = []
    for i in range(size):
        reference, same, other = kinds[i % len(kinds)](draw)
        is_right = draw.random() < 0.5
        reasoning = _REASONING.format(draw.randint(10, 10**6), draw.randint(10, 10**6))
        completion = reasoning + draw.choice(_BOXES).format(same if is_right else other)
        cases.append(Case(reference, completion, is_right))
    return cases


_ENDINGS = (
    "#### {}", "The answer is {}.", "So the answer is {}.", "A: {}", "Answer: {}", "**Answer:** {}", "Final Answer: {}",
    "The final answer is $\\boxed{{{}}}$.", "\\boxed{{{}}}", "<answer>{}</answer>", "### Final Answer\n\n{}",
    "Therefore, she has {} in total.", "The answer is {}. I hope it is correct.",
    "#### {}\n\nQuestion: Tom has 3 pens.\n#### 3",
)  # fmt: skip


def ordinary(solutions: Sequence[tuple[str, str]], *, size: int, seed: int) -> list[Case]:
    """Return completions as models write them for (worked solution, number): half end in another number."""
    draw = random.Random(seed)
    cases = []
    for i in range(size):
        solution, reference = solutions[i % len(solutions)]
        value = int(reference.replace(",", "").partition(".")[0])
        is_right = draw.random() < 0.5
        stated = value if is_right else value + draw.choice([-10, -2, -1, 1, 2, 5, 10, 100, value or 1])
        text = draw.choice([str(stated), f"{stated:,}", f"{stated}.00", f"\\${stated}" if i % 2 else f"{stated}"])
        # A line of its own makes every completion another text.
        reasoning = f"Let me think about case {draw.randint(0, 10**9)}.\n{solution}\n"
        cases.append(Case(reference, reasoning + draw.choice(_ENDINGS).format(text), is_right))
    return cases


def gsm8k_solutions(path: Path | None, *, seed: int) -> list[tuple[str, str]]:
    """Read the worked solutions of a GSM8K file, or make some up."""
    if path is not None:
        answers = [json.loads(text)["answer"] for text in path.read_text(encoding="utf-8").splitlines()]
        parts = [answer.rpartition("####") for answer in answers]
        return [(solution.strip(), reference.strip()) for solution, _, reference in parts]
    draw = random.Random(seed)
    made = []
    for _ in range(1000):
        a, b, c = (draw.randint(2, 60) for _ in range(3))
        made.append(
            (
                f"She packs {a} boxes with {b} pears each, which makes {a} * {b} = <<{a}*{b}={a * b}>>{a * b} pears.\n"
                f"With the {c} pears on the table there are {a * b} + {c} = <<{a * b}+{c}={a * b + c}>>{a * b + c}.",
                str(a * b + c),
            )
        )
    return made
