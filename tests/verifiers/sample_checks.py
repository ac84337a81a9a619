"""Checks that misbehave on request, for the tests of the pool."""

from __future__ import annotations

import os
import time
from typing import Any

import verifiers
from verifiers.types import Verdict


def obey(completion: str, reference: Any, *, seconds: float = 0.0) -> bool:
    """Do what the completion says; anything else is compared with the reference."""
    time.sleep(seconds)
    if completion == "hang":
        while True:
            pass
    if completion == "sleep":
        time.sleep(3600)
    if completion == "die":
        os._exit(3)
    if completion == "raise":
        raise RuntimeError("this check is broken")
    if completion == "exit":
        raise SystemExit(1)
    if completion == "print":
        print("noise on standard output")
    return completion == str(reference)


@verifiers.register("length", version="7", threshold=0.5, timeout=9.0)
def length(completion: str, reference: float) -> float:
    """Score by length."""
    return len(completion) / reference


def nonsense(completion: str, reference: Any) -> Any:
    """Return what no check may return."""
    return {"nan": float("nan"), "text": "yes", "none": None, "one": 1}[completion]


def own_verdict(completion: str, reference: Any) -> Verdict:
    """Return a verdict of its own."""
    return Verdict("unknown", 0.3, "x" * 9999, "undecided", "somebody", "else")


def process_id(completion: str, reference: Any) -> Verdict:
    """Say which process checked."""
    return Verdict.correct(str(os.getpid()))


def says_correct(completion: str, reference: Any) -> bool:
    """Always correct."""
    return True


def says_incorrect(completion: str, reference: Any) -> bool:
    """Always incorrect."""
    return False


def says_unknown(completion: str, reference: Any) -> Verdict:
    """Always unknown."""
    return Verdict.unknown("undecided")
