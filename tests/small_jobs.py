"""Units of a plan as jobs, for tests that draw without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from star_rft.sampling.jobs import UnitJob
from star_rft.sampling.plan import Unit
from star_rft.types import Decoding, Problem, Request


def jobs_for(
    units: Sequence[Unit], problems: Mapping[str, Problem], decoding: Decoding, *, model_id: str = "m"
) -> list[UnitJob]:
    """Return the jobs of round 1, whose prompts are the problems' texts as they are."""
    return [
        UnitJob(unit, 1, "sample", "model", model_id, decoding, _requests(unit, problems), problems) for unit in units
    ]


def _requests(unit: Unit, problems: Mapping[str, Problem]) -> tuple[Request, ...]:
    return tuple(Request(p.problem_id, p.sample_index, problems[p.problem_id].prompt, p.seed) for p in unit.requests())
