from __future__ import annotations

import re
import time
from typing import Any

import pytest

import verifiers
from verifiers.checks.math import _parsed_reference, read_reference


def judge(answer: str, reference: str) -> str:
    return verifiers.verify("math", rf"\boxed{{{answer}}}", reference).status


SAME = [
    ("0.5", r"\frac12"),
    (r"\frac{\pi}{4}", r"\pi/4"),
    (r"\sqrt{12}", r"2\sqrt{3}"),
    (r"\frac{1}{\sqrt2}", r"\frac{\sqrt2}{2}"),
    ("x^2-y^2", "(x-y)(x+y)"),
    ("p-q", "-q+p"),
    (r"\tan^2 y+1", r"\sec^2 y"),
    (r"\sin 2x", r"2\sin x\cos x"),
    ("3^{50}", "9^{25}"),
    (r"\log_2 8", "3"),
    ("120", "5!"),
    ("10", r"\binom{5}{2}"),
    ("-2", r"\sqrt[3]{-8}"),
    ("1-i", "-i+1"),
    (r"\text{Tuesday}", "tuesday"),
    (r"4:30 \text{ p.m.}", "4:30 pm"),
    ("204_5", "204_{5}"),
]
DIFFERENT = [
    ("4", "4t"),
    ("1/2006!", "1/2004!"),
    ("1/2^{98}", "1/2^{99}"),
    ("2e-7", "1e-7"),
    ("0.0000001", "0.0000002"),
    ("x^2+121=2", "x^2+121=0"),
    ("204_5", "204_6"),
    ("5", r"\text{not }5"),
    ("12", "1 2"),
    ("x", "|x|"),
    ("x^{2}", "x2"),
    (r"\ln 2", r"\log 2"),
    ("6", r"6 \mod 7"),
    (r"\text{Monday}", r"\text{Monday or Tuesday}"),
    ("t^3+t+C", "t^3+t"),
    (r"7\pi", "7"),
    ("3:30", "330"),
    (r"\emptyset", "0"),
    ("-5", "5"),
    ("10^{10^{10}}", "11"),
]


@pytest.mark.parametrize(("reference", "answer"), SAME)
def test_equal_answers_are_correct(reference: str, answer: str) -> None:
    assert judge(answer, reference) == "correct"
    assert judge(reference, answer) == "correct"


@pytest.mark.parametrize(("reference", "answer"), DIFFERENT)
def test_different_answers_are_never_correct(reference: str, answer: str) -> None:
    assert judge(answer, reference) != "correct"
    assert judge(reference, answer) != "correct"


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        ("1,2", "2,1", "1,3"),
        (r"\{1,2\}", "1,2", "1"),
        ("3,4", r"3 \text{ and } 4", "34"),
        (r"\pm 2", "2,-2", "2"),
        ("(1,2)", "(1, 2)", "(2,1)"),
        ("(1,2)", "(1,2.0)", "[1,2]"),
        ("[0,1)", r"\left[0,1\right)", "[0,1]"),
        (r"x \geq 3", r"[3,\infty)", r"(3,\infty)"),
        (r"-1<x\le 1", "(-1,1]", "(-1,1)"),
        (r"(-\infty,2)\cup(3,\infty)", r"x<2 \text{ or } x>3", r"(-\infty,3)\cup(3,\infty)"),
        ("x=5", "5", "y=5"),
        ("5", "x=5", "x>5"),
        ("y=2x+3", "2x-y+3=0", "y=2x-3"),
        ("A=18, B=44/3", r"A=18, B=\frac{44}{3}", r"A=\frac{44}{3}, B=18"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
        ("50%", "50", "5"),
        (r"\frac14", r"25\%", r"2.5\%"),
        (r"5\text{ cm}", "5", r"5\text{ m}"),
        ("1/3", "0.333333", "0.333"),
        (r"\pi", "3.14159265", "3.14"),
        ("1234", "1,234", "1,2,3,4"),
        ("A", r"\text{(A) } 12", "A, B"),
        ("3", "2+1=3", "2+2=3"),
    ],
)
def test_conventions(reference: str, right: str, wrong: str) -> None:
    assert (judge(right, reference), judge(wrong, reference)) == ("correct", "incorrect")


def test_reference_and_prediction_cannot_be_swapped() -> None:
    # Both are keywords with names; the wrong order shows as a bad reference, not as a wrong answer.
    verdict = verifiers.verify("math", completion="5", reference="")
    assert (verdict.status, verdict.reason) == ("unknown", "bad_reference")
    worked = "She has 2+3=5 eggs.\n#### 5"
    assert verifiers.verify("math", completion="The answer is 5.", reference=worked).is_correct
    assert not verifiers.verify("math", completion="The answer is x > 5.", reference="5").is_correct


def test_references_are_parsed_once() -> None:
    read_reference.cache_clear()
    for _ in range(5):
        verifiers.verify("math", "#### 5", "a long solution\n#### 5")
    assert read_reference.cache_info().misses == 1


@pytest.mark.parametrize("reference", ["", "#### ", None, True, {"a": 1}, r"\boxed{}"])
def test_a_reference_without_an_answer_is_a_bad_reference(reference: Any) -> None:
    verdict = verifiers.verify("math", "#### 5", reference)
    assert (verdict.status, verdict.score, verdict.reason) == ("unknown", None, "bad_reference")
    problem = verifiers.get("math").reference_problem
    assert problem is not None
    assert problem(reference) is not None


def test_what_no_tier_can_tell_is_undecided() -> None:
    verdict = verifiers.verify("math", r"\boxed{\sum_{k} F_k G_k}", r"\sum_{k} G_k F_k")
    assert (verdict.status, verdict.reason) == ("unknown", "undecided")


HOSTILE = [
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{100000!}",
    r"\boxed{((99!)!)!}",
    r"\boxed{2^{2^{20}}}",
    "\\boxed{" * 10_000 + "7" + "}" * 10_000,
    r"\boxed{" + "(" * 300 + "6" + ")" * 300 + "}",
    r"\boxed{" + r"\sqrt{" * 200 + "6" + "}" * 200 + "}",
    r"\boxed{\int_0^\infty e^{-x^{x^x}} dx}",
    r"\boxed{__import__('os').system('false')}",
    r"\boxed{" + ",".join(f"x^{{{i}}}" for i in range(100)) + "}",
    "The answer is " + "3" * 8000,
    "1" * 1_000_000,
]


@pytest.mark.parametrize("completion", HOSTILE)
def test_hostile_text_is_refused_quickly(completion: str) -> None:
    began = time.process_time()
    assert verifiers.verify("math", completion, "5").status == "incorrect"
    assert time.process_time() - began < 2.0


def test_sympy_never_reads_text_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    import sympy
    import sympy.physics.units  # which math-verify imports later, and which evaluates names of its own

    evaluated: list[str] = []
    real = sympy.parsing.sympy_parser.eval_expr

    def watch(code: str, *arguments: object) -> object:
        evaluated.append(code)
        return real(code, *arguments)

    monkeypatch.setattr(sympy.parsing.sympy_parser, "eval_expr", watch)
    _parsed_reference.cache_clear()
    # Numbers of no other test: sympy caches what it has parsed in this process.
    pair = (r"\boxed{z \in [-\frac{37}{29}, -1] \cup [1, \frac{37}{29}]}", r"1\leq|z|\leq \frac{37}{29}")
    assert verifiers.verify("math", *pair).is_correct
    assert not verifiers.verify("math", r"\boxed{\sqrt{exec}__import__('os') + |w|}", r"|\vec w_{3}| + 7_x").is_correct
    # math-verify's LaTeX grammar reads its number tokens with sympify; nothing but digits is among them.
    assert evaluated
    assert [code for code in evaluated if not re.fullmatch(r"(Integer|Float) \('?[\d.]+'? ?\)", code.strip())] == []


def test_the_sample_cases_are_judged_right_and_no_wrong_answer_passes(math_cases: list[dict[str, Any]]) -> None:
    verdicts = verifiers.verify_many("math", ((case["completion"], case["gold"]) for case in math_cases), workers=2)
    judged = list(zip(math_cases, verdicts, strict=True))
    assert [case["id"] for case, v in judged if v.is_correct and not case["label"]] == []
    assert sum(v.is_correct == case["label"] for case, v in judged) / len(judged) >= 0.985
    assert sum(v.status == "unknown" for v in verdicts) <= 3
