"""Small ledgers for tests, written through the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from star_rft.files import write_table
from star_rft.frontier.classes import classify
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.selection.select import Selection, SelectionSpec, select
from star_rft.types import Problem, Sample, Split
from verifiers.types import Reason, Status, Verdict

RULES: list[Any] = ["correct", {"dedup": "exact"}, {"dedup": "equations"}, {"cap": 2}]


def problem(
    name: str, prompt: str | None = None, reference: Any = "2", *, meta: Mapping[str, Any] | None = None
) -> Problem:
    return Problem(name, prompt or f"Question {name}?", reference, "v", solution="1 + 1 = 2", meta=meta or {})


def sample(
    problem: str,
    sample_index: int,
    text: str = "1 + 1 = 2",
    *,
    round_index: int = 1,
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
        round=round_index,
        sample_index=sample_index,
        model="m",
        decode_id=decode_id,
        prompt_sha="p",
        seed=2**63 + sample_index,
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


def everything(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Every column of every trace, in the order of problems and samples."""
    return ledger.connect().execute("select * from traces order by problem_id, sample_index").fetchall()


def selection(ledger: Ledger, *rules: Any, **options: Any) -> Selection:
    """What the rules select in round 1 from the traces of all rounds, unless the options say otherwise."""
    round_index = options.pop("round_index", 1)
    return select(ledger.connect(), SelectionSpec(rules, **options), round_index=round_index)


def finish_round(ledger: Ledger, round_index: int, *, rounds: str = "last") -> None:
    """Class the problems of a round and select from its traces, as the loop does."""
    folder = RunFolder(ledger.run_dir)
    write_table(folder.frontier(round_index), classify(ledger.connect(), through_round=round_index))
    chosen = selection(ledger, *RULES, round_index=round_index, rounds=rounds)
    write_table(folder.selection(round_index), chosen.traces.to_arrow_table())
