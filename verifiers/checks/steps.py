"""The verifier `steps`: every equation that a chain of thought states is checked exactly.

A right answer can come from wrong steps, and training on such a trace teaches the wrong steps. `steps` is a
filter and a metric for that, not a reward by itself: it does not check the answer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verifiers.extraction.answer import TEXT_LIMIT, extract, reference_answer
from verifiers.math.latex import clean
from verifiers.math.numbers import Numeral, parse_numeral
from verifiers.prose.equations import Equation, find_equations
from verifiers.registry import register
from verifiers.types import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Steps:
    """The equations of a chain of thought, and its final answer.

    `is_derived`: the answer is a side of an equation that holds.
    """

    equations: tuple[Equation, ...]
    answer: str | None
    is_derived: bool

    @property
    def false(self) -> tuple[Equation, ...]:
        """The equations that do not hold."""
        return tuple(equation for equation in self.equations if not equation.holds)

    @property
    def share_true(self) -> float:
        """The share of the equations that hold; 1.0 where there are none."""
        return 1.0 - len(self.false) / len(self.equations) if self.equations else 1.0


def examine(text: str, *, answer: str | None = None) -> Steps:
    """Return the equations of a chain of thought, and whether they lead to the answer.

    `answer` is the final answer to look for, by default the text's own. Text inside `<think>` is read too.
    """
    equations = tuple(find_equations(text[-TEXT_LIMIT:]))
    if answer is None:
        answer = extract(text, fallback="sentence").answer
    return Steps(equations, answer, answer is not None and _is_derived(answer, equations))


def _is_derived(answer: str, equations: tuple[Equation, ...]) -> bool:
    number = _number(answer)
    if number is None:
        return False
    # 50% may be reached as 0.5 or as 50.
    wanted = {number.value, number.value * 100} if number.is_percent else {number.value}
    reached = {side for equation in equations if equation.holds for side in (equation.right, equation.left)}
    if not wanted.isdisjoint(reached):
        return True
    room = Fraction(1, 2 * 10**number.places)  # the answer may be rounded to its last decimal
    return number.places > 0 and any(abs(side - number.value) <= room for side in reached)


@functools.lru_cache(maxsize=16_384)
def _number(text: str) -> Numeral | None:
    return parse_numeral(clean(reference_answer(text)))


def _reference_problem(reference: Any) -> str | None:
    if reference is None or (isinstance(reference, (str, int, float)) and not isinstance(reference, bool)):
        return None
    return f"a reference must be an answer, which only `derived` reads, or nothing, not {type(reference).__name__}"


@register(
    "steps",
    version="1",
    example=("48/2 = 24 clips in May, and 48 + 24 = 72 in all.\n#### 72", "72"),
    reference_problem=_reference_problem,
)
def steps(completion: str, reference: str | int | float | None, *, derived: bool = False, at_least: int = 0) -> Verdict:
    """Every equation of the chain of thought holds: a filter for right answers by wrong steps, not a reward.

    Equations are exact, but a decimal may be a right rounding (10/3 = 3.33, not 3 or 3.34; with `≈` any rounding), and
    a percent is its value or the bare number. Of 2+3=5+1=6 each link is checked. Algebra, labels and what can be read
    in two ways never count as false.

    `derived`: a true equation must also reach the final answer, the reference's or without one the completion's own.
    `at_least`: fewer equations than this are incorrect; by default a text without equations passes.

    The score is the share of equations that hold; the answer of an `incorrect` verdict is the first that does not.
    """
    if _reference_problem(reference) is not None:
        return Verdict.unknown("bad_reference")
    equations = tuple(find_equations(completion[-TEXT_LIMIT:]))
    found = Steps(equations, None, is_derived=False)
    if found.false:
        return Verdict.incorrect("mismatch", found.false[0].text, score=found.share_true)
    if len(equations) < at_least:
        return Verdict.incorrect("no_answer", f"{len(equations)} equations")
    if derived:
        found = examine(completion, answer=None if reference in (None, "") else str(reference))
        if not found.is_derived:
            reason: Reason = "no_answer" if found.answer is None else "mismatch"
            return Verdict.incorrect(reason, f"never derived: {found.answer}")
    return Verdict.correct()
