"""Programmatic verdicts on model completions: correct, incorrect or unknown, always with a reason.

    >>> import verifiers
    >>> verifiers.verify("math", completion=r"... so \\boxed{\\frac12}", reference="0.5").status
    'correct'

`verify` runs one check in this process. `verify_many`, `verify_iter` and `Pool` run checks in worker
processes that can be killed; use them for anything that a model wrote.
"""

from __future__ import annotations

from verifiers.clash import refuse_mixed_install
from verifiers.pool import Pool, averify_iter, verify, verify_iter, verify_many
from verifiers.registry import (
    Check,
    UnknownOption,
    UnknownVerifier,
    VerifierError,
    WorkerLoadError,
    get,
    names,
    register,
)
from verifiers.rewards import as_reward
from verifiers.scoring import score_file
from verifiers.tally import Tally
from verifiers.types import REASONS, STATUSES, Reason, Status, Verdict, Verifier

refuse_mixed_install()

__all__ = [
    "REASONS",
    "STATUSES",
    "Check",
    "Pool",
    "Reason",
    "Status",
    "Tally",
    "UnknownOption",
    "UnknownVerifier",
    "Verdict",
    "Verifier",
    "VerifierError",
    "WorkerLoadError",
    "as_reward",
    "averify_iter",
    "get",
    "names",
    "register",
    "score_file",
    "verify",
    "verify_iter",
    "verify_many",
]
