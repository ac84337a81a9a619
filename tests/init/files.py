"""Small data sets as people have them, and `star-rft init` on them."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner, Result

from star_rft.cli import app
from star_rft.data import load
from star_rft.types import Problem

SHOPS = ["apples", "pears", "plums", "figs", "nuts"]


def word_problems(n: int) -> list[Problem]:
    return load("word_problems", verifier="math", split="train", options={"n": n, "seed": 3, "steps": [1, 2]})


def stories(n: int) -> list[dict[str, Any]]:
    """Arithmetic word problems in columns of one's own."""
    return [{"nr": i, "story": p.prompt, "result": int(p.reference)} for i, p in enumerate(word_problems(n))]


def gsm8k_like(n: int) -> list[dict[str, Any]]:
    return [{"question": problem.prompt, "answer": problem.solution} for problem in word_problems(n)]


def fractions(n: int) -> list[dict[str, Any]]:
    r"""German columns, LaTeX, a solution that ends in a box."""
    return [
        {
            "thema": "Brüche",
            "aufgabe": f"Kürze den Bruch und ziehe ihn von {a} ab: 2/{2 * a}.",
            "weg": rf"Gekürzt ist er \frac{{1}}{{{a}}}, also \boxed{{\frac{{{a * a - 1}}}{{{a}}}}}.",
            "antwort": rf"\frac{{{a * a - 1}}}{{{a}}}",
        }
        for a in range(2, n + 2)
    ]


def capitals(n: int) -> list[dict[str, Any]]:
    """Multiple choice with the options in a list and the right one's number."""
    found = []
    for i in range(n):
        options = [f"{kind} {i}" for kind in SHOPS[:4]]
        found.append({"id": f"q{i}", "question": f"What does shop {i} sell?", "choices": options, "answer": i % 4})
    return found


def adders(n: int) -> list[dict[str, Any]]:
    """Programs with their tests as source."""
    return [
        {
            "task": f"Write a function that adds {k}.",
            "code": f"def add(x):\n    return x + {k}",
            "tests": f"assert add(1) == {1 + k}",
        }
        for k in range(n)
    ]


def init(*arguments: object) -> Result:
    """Call `star-rft init` in this process; nobody is asked, for there is no terminal."""
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def said(done: Result) -> str:
    """Return what was printed, wherever lines were broken."""
    return " ".join(done.output.split())


def values_of(text: str) -> list[str]:
    """Return the lines of a config that are no comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
