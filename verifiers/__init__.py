r"""Programmatic verdicts on model completions: correct, incorrect or unknown, always with a reason.

    >>> import verifiers
    >>> verifiers.verify("math", completion=r"... so \boxed{\frac12}", reference="0.5").status
    'correct'

`verify` runs one check in this process. `verify_many`, `verify_iter` and `Pool` run checks in worker
processes that can be killed; use them for anything that a model wrote.
"""

from __future__ import annotations

from verifiers.clash import refuse_mixed_install
from verifiers.extraction.answer import extract
from verifiers.extraction.program import find_program
from verifiers.file_scores import score_file
from verifiers.plugins import UnknownVerifier, VerifierError
from verifiers.prose.equations import find_equations
from verifiers.registry import Check, UnknownOption, WorkerLoadError, get, names, register
from verifiers.rewards import Tally, as_reward
from verifiers.types import REASONS, STATUSES, Reason, Status, Verdict, Verifier
from verifiers.workers.pool import Pool, averify_iter, verify, verify_iter, verify_many

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
    "extract",
    "find_equations",
    "find_program",
    "get",
    "names",
    "register",
    "score_file",
    "verify",
    "verify_iter",
    "verify_many",
]
