"""Are the references what the verifier can read? Found out when the data loads, not by a thousand unknown verdicts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import verifiers
from star_rft.data.rows import DataError
from star_rft.types import Problem

log = logging.getLogger("star_rft")

# A few bad references are the data's, and their problems stay unknown. More are a wrong verifier or column.
BAD_SHARE_LIMIT = 0.1
_SHOWN = 3


def check_references(problems: Sequence[Problem], check: verifiers.Check) -> None:
    """Warn of references that the verifier cannot read; raise DataError where they are many."""
    if check.reference_problem is None:
        return
    found = [(problem, text) for problem in problems if (text := check.reference_problem(problem.reference))]
    if not found:
        return
    shown = "; ".join(f"problem {problem.id}: {text}" for problem, text in found[:_SHOWN])
    text = f"{len(found)} of {len(problems)} references are nothing that verifier {check.name!r} can read ({shown})"
    if len(found) > BAD_SHARE_LIMIT * len(problems):
        raise DataError(
            f"{text}. Set verifier.name to one that does (code for programs, choice for multiple choice, exact for "
            f"text), or the columns of the data"
        )
    log.warning("%s. Every verdict on these problems will be unknown", text)
