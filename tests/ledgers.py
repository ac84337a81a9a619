"""Small ledgers for tests, written through the real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from star_rft.ledger import Ledger
from star_rft.types import Sample, Split
from verifiers.types import Reason, Status, Verdict


def sample(
    problem: str,
    attempt: int,
    text: str = "1 + 1 = 2",
    *,
    round: int = 1,
    split: Split = "train",
    tokens: int = 3,
    finish: str = "stop",
    decode_id: str = "d",
    hinted: bool = False,
    leaks_hint: bool = False,
) -> Sample:
    return Sample(
        problem_id=problem,
        split=split,
        round=round,
        attempt=attempt,
        model="m",
        decode_id=decode_id,
        prompt_sha="p",
        seed=2**63 + attempt,
        hinted=hinted,
        leaks_hint=leaks_hint,
        text=text,
        token_ids=tuple(range(tokens)),
        finish_reason="length" if finish == "length" else "stop",
        logprob=-float(tokens),
    )


def scored(score: float | None, status: Status = "correct") -> Verdict:
    return replace(verdict(status), score=score)


def verdict(status: Status = "correct", answer: str | None = "2", reason: Reason | None = None) -> Verdict:
    default: Reason = "match" if status == "correct" else "fault" if status == "unknown" else "mismatch"
    return Verdict(
        status,
        None if status == "unknown" else float(status == "correct"),
        answer,
        reason or default,
        "v",
        "1",
    )


def commit(ledger: Ledger, unit: str, pairs: Iterable[tuple[Sample, Verdict]]) -> None:
    ledger.commit(unit, list(pairs), seconds={"sample": 1.0, "verify": 0.1})


def ledger_of(folder: Path, pairs: Iterable[tuple[Sample, Verdict]]) -> Ledger:
    ledger = Ledger(folder, is_writer=True)
    commit(ledger, "u0", pairs)
    return ledger
