"""The example of docs/verifiers.md: a verifier of one's own, in three stages."""

from __future__ import annotations

import verifiers


def acrostic_plain(completion: str, reference: str) -> bool:
    """The first letters of the lines spell the reference."""
    return "".join(line[0] for line in completion.split("\n") if line) == reference


def word_problem(reference: object) -> str | None:
    """Say what is wrong with a reference, or None."""
    if isinstance(reference, str) and reference.isalpha():
        return None
    return f"a reference must be a word, not {reference!r}"


@verifiers.register(
    "acrostic",
    version="1",
    example=("Dogs bark\nOver\nGates", "dog"),
    reference_problem=word_problem,
)
def acrostic(completion: str, reference: str, *, ignore_case: bool = True) -> verifiers.Verdict:
    """The first letters of the lines of a poem spell the reference."""
    if word_problem(reference):
        return verifiers.Verdict.unknown("bad_reference")
    lines = [line.strip() for line in completion.splitlines() if line.strip()]
    if not lines:
        return verifiers.Verdict.incorrect("no_answer")
    spelt = "".join(line[0] for line in lines)
    same = spelt.lower() == reference.lower() if ignore_case else spelt == reference
    if same:
        return verifiers.Verdict.correct(spelt)
    return verifiers.Verdict.incorrect("mismatch", spelt)
