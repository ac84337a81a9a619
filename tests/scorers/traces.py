"""Traces for scorers."""

from __future__ import annotations

from star_rft.types import Problem, Trace
from tests.small_ledgers import sample, verdict
from verifiers.types import Status

QUESTIONS = ["Tom has 3 apples and buys 4. How many?", "2 + 2?", "Ann reads 5 pages a day for 6 days. How many pages?"]


def trace(
    prompt: str,
    text: str,
    *,
    problem: str = "",
    sample_index: int = 0,
    status: Status = "correct",
    answer: str | None = "2",
    finish: str = "stop",
) -> Trace:
    name = problem or prompt
    return Trace(
        Problem(id=name, prompt=prompt, reference="7", verifier="math"),
        sample(name, sample_index, text, finish=finish),
        verdict(status, answer),
    )


def of_many_lengths() -> list[Trace]:
    """Twelve traces whose lengths neither rise nor fall."""
    lengths = [9, 1, 4, 12, 2, 7, 1, 30, 3, 5, 18, 6]
    return [
        trace(QUESTIONS[i % 3], " ".join(f"{i} + {j} = {i + j}." for j in range(length)), sample_index=i)
        for i, length in enumerate(lengths)
    ]


def too_long() -> Trace:
    """A trace beyond the 512 positions of the tiny model."""
    return trace("2 + 2?", "1 + 1 = 2. " * 400)
