"""python -m verifiers audit NAME FILE --against OTHER: where two verifiers disagree, as a table to read."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifiers import file_scores, registry
from verifiers.extraction.answer import reference_answer
from verifiers.types import Verdict
from verifiers.workers.heartbeat import uncounted
from verifiers.workers.pool import verify_iter

# Names that `--against` knows besides the registered verifiers.
BASELINES = {"math_verify": f"{__name__}:math_verify"}
SNIPPET_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One row that two verifiers judge differently."""

    id: Any
    reference: Any
    completion: str
    first: Verdict
    second: Verdict


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found: how many rows there were, and those that were judged differently."""

    first: str
    second: str
    total: int
    disagreements: tuple[Disagreement, ...]

    def as_json(self) -> dict[str, Any]:
        rows = [
            {
                "id": row.id,
                "reference": row.reference,
                "completion": row.completion,
                self.first: _judged(row.first),
                self.second: _judged(row.second),
            }
            for row in self.disagreements
        ]
        return {"verifiers": [self.first, self.second], "rows": self.total, "disagreements": rows}

    def as_text(self) -> str:
        """Return one block a disagreement, the ones that matter most (one says correct) first."""
        share = f" ({len(self.disagreements) / self.total:.1%})" if self.total else ""
        head = f"{self.first} and {self.second} disagree on {len(self.disagreements)} of {self.total} rows{share}"
        rows = sorted(self.disagreements, key=lambda row: not (row.first.is_correct or row.second.is_correct))
        return "\n\n".join([head, *(self._block(row) for row in rows)])

    def _block(self, row: Disagreement) -> str:
        width = max(len(self.first), len(self.second), len("completion"))
        lines = [
            ("id", str(row.id)),
            ("reference", _one_line(str(row.reference))),
            (self.first, _described(row.first)),
            (self.second, _described(row.second)),
            ("completion", _one_line(row.completion)),
        ]
        return "\n".join(f"{label:>{width}}  {textwrap.shorten(text, 400)}" for label, text in lines)


def _judged(verdict: Verdict) -> dict[str, Any]:
    return {"status": verdict.status, "answer": verdict.answer, "reason": verdict.reason}


def _described(verdict: Verdict) -> str:
    answer = "no answer" if verdict.answer is None else _one_line(verdict.answer)
    return f"{verdict.status} ({verdict.reason}): {answer}"


def _one_line(text: str) -> str:
    """The end of a text, where its answer is, in one line."""
    return ("..." if len(text) > SNIPPET_LENGTH else "") + " ".join(text[-SNIPPET_LENGTH:].split())


def audit(
    name: str, rows: Iterable[dict[str, Any]], *, against: str, workers: int | None = None, timeout: float | None = None
) -> Audit:
    """Judge every row (`id`, `completion`, `reference`) with both verifiers, each in workers that can be killed.

    `against` is a verifier's name, a path, or "math_verify": math-verify's `parse` and `verify` with its defaults.
    """
    kept = list(rows)
    pairs = [(row["completion"], row["reference"]) for row in kept]
    first, second = (
        list(verify_iter(BASELINES.get(one, one), pairs, workers=workers, timeout=timeout)) for one in (name, against)
    )
    found = tuple(
        Disagreement(row["id"], row["reference"], row["completion"], a, b)
        for row, a, b in zip(kept, first, second, strict=True)
        if a.status != b.status
    )
    return Audit(name, against, len(kept), found)


def math_verify(completion: str, reference: Any) -> Verdict:
    """math-verify as it comes: parse both, then verify. What it cannot parse of a reference is a bad reference."""
    with uncounted():
        import math_verify as baseline

    answer = reference_answer(str(reference))
    is_delimited = "$" in answer or "\\(" in answer or "\\[" in answer or "\\boxed" in answer
    expected = baseline.parse(answer if is_delimited else f"${answer}$")
    if not expected:
        return Verdict.unknown("bad_reference")
    target = baseline.parse(completion)
    # The last of what it extracted is the text; the others are sympy's, whose str() may never end.
    text = next((part for part in reversed(target) if isinstance(part, str)), None)
    if not target:
        return Verdict.incorrect("no_answer")
    is_same = bool(baseline.verify(expected, target))
    return Verdict.correct(text) if is_same else Verdict.incorrect("mismatch", text)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a JSONL file; raise BadLine, which names file and line, for one that is no row."""
    rows = []
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                try:
                    rows.append(file_scores._row(line))
                except ValueError as error:
                    raise file_scores.BadLine(f"{path}:{number}: {error}") from error
    return rows


def main(arguments: Sequence[str]) -> None:
    """Print the audit that the arguments after `python -m verifiers audit` ask for."""
    parser = argparse.ArgumentParser(prog="python -m verifiers audit", description=__doc__)
    parser.add_argument("name", help="a verifier")
    parser.add_argument("file", help="a JSONL file of {id, completion, reference}")
    parser.add_argument("--against", required=True, help="another verifier, or math_verify")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument("--timeout", type=float, help="seconds an item (default: each verifier's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(arguments)
    for name in (args.name, BASELINES.get(args.against, args.against)):
        registry.get(name)  # a misspelt name fails before anything is read
    found = audit(args.name, read_rows(args.file), against=args.against, workers=args.workers, timeout=args.timeout)
    print(json.dumps(found.as_json(), ensure_ascii=False) if args.json else found.as_text())
