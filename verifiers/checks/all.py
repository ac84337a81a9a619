"""The verifier `all`: several verifiers that must all say correct."""

from __future__ import annotations

from typing import Any

from verifiers import composition
from verifiers.registry import register
from verifiers.types import Verdict


@register(
    "all",
    version="1",
    example=("He has 2 + 3 = 5 pears. The answer is 5.", "5", {"of": ["math", "steps"]}),
    bind=composition.bind,
)
def all(completion: str, reference: Any, *, of: Any) -> Verdict:
    """Every verifier of the list `of` says correct.

    Incorrect as soon as one says incorrect (those after it do not run), else unknown if one is unknown, else
    correct. Answer and reason are those of the verifier that decided, or else of the first.
    """
    return composition.first_of(of, completion, reference, decisive="incorrect")
