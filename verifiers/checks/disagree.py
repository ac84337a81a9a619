"""The verifier `disagree`: two verifiers, and `unknown` where they differ."""

from __future__ import annotations

from functools import partial
from typing import Any

from verifiers import composition
from verifiers.registry import register
from verifiers.types import Verdict


@register(
    "disagree",
    version="1",
    example=("#### 5", "5", {"of": ["math", "numeric"]}),
    bind=partial(composition.bind, count=2),
)
def disagree(completion: str, reference: Any, *, of: Any) -> Verdict:
    """Two verifiers agree; where they differ the verdict is unknown (`undecided`) and its answer names both verdicts.

    A verdict that is unknown differs from one that is not. Where both are unknown, the verdict is the first one's.
    """
    parts = composition.read_parts(of)
    first, second = (part.verdict(completion, reference) for part in parts)
    if first.status == second.status:
        return first
    said = "; ".join(
        f"{part.name}: {verdict.status}, {verdict.reason}, {verdict.answer}"
        for part, verdict in zip(parts, (first, second), strict=True)
    )
    return Verdict.unknown("undecided", said)
