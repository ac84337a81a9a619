"""The verifier `fallback`: the next verifier decides where one says `unknown`."""

from __future__ import annotations

from functools import partial
from typing import Any

from verifiers import composition
from verifiers.registry import register
from verifiers.types import Verdict


@register(
    "fallback",
    version="1",
    example=(r"\boxed{\frac12}", "0.5", {"of": ["numeric", "math"]}),
    bind=partial(composition.bind, needs_all=False),
)
def fallback(completion: str, reference: Any, *, of: Any) -> Verdict:
    """The first verifier of the list `of` whose verdict is not unknown decides.

    Where all verdicts are unknown, the first one is returned.
    """
    first: Verdict | None = None
    for verdict in composition.verdicts(of, completion, reference):
        if verdict.status != "unknown":
            return verdict
        first = first or verdict
    assert first is not None  # `of` is never empty
    return first
