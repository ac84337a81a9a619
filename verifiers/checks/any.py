"""The verifier `any`: several verifiers of which one is enough."""

from __future__ import annotations

from typing import Any

from verifiers import composition
from verifiers.registry import register
from verifiers.types import Verdict


@register(
    "any",
    version="1",
    example=("<answer>Paris</answer>", "paris", {"of": ["exact", "math"]}),
    bind=composition.bind,
)
def any(completion: str, reference: Any, *, of: Any) -> Verdict:
    """At least one verifier of the list `of` says correct.

    Correct as soon as one says correct (those after it do not run), else unknown if one is unknown, else
    incorrect. Answer and reason are those of the verifier that decided, or else of the first.
    """
    return composition.first_of(of, completion, reference, decisive="correct")
