"""python -m verifiers audit NAME FILE --against OTHER: the rows on which two verifiers disagree."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from verifiers import file_scores, registry
from verifiers.extraction.answer import reference_answer
from verifiers.types import Verdict
from verifiers.workers.heartbeat import uncounted
from verifiers.workers.pool import verify_iter

# Names that `--against` takes besides those of registered verifiers.
_BASELINES = {"math_verify": f"{__name__}:math_verify"}
_SNIPPET_LENGTH = 160


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
    """The result of an audit: the number of rows, and the rows on which the two verifiers disagree."""

    first: str
    second: str
    total: int
    disagreements: tuple[Disagreement, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data for JSON; each row has a verdict under the name of each verifier."""
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
        """Return one block of text a disagreement, those in which one verifier says correct first."""
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
    """Return the end of a text, where its answer is, as one line."""
    return ("..." if len(text) > _SNIPPET_LENGTH else "") + " ".join(text[-_SNIPPET_LENGTH:].split())


def audit(
    name: str, rows: Iterable[dict[str, Any]], *, against: str, workers: int | None = None, timeout: float | None = None
) -> Audit:
    """Judge every row (`id`, `completion`, `reference`) with two verifiers, in worker processes.

    `against` is a verifier's name, "pkg.module:function", or "math_verify": that library with its defaults.
    """
    kept = list(rows)
    pairs = [(row["completion"], row["reference"]) for row in kept]
    first, second = (
        list(verify_iter(_BASELINES.get(one, one), pairs, workers=workers, timeout=timeout)) for one in (name, against)
    )
    found = tuple(
        Disagreement(row["id"], row["reference"], row["completion"], a, b)
        for row, a, b in zip(kept, first, second, strict=True)
        if a.status != b.status
    )
    return Audit(name, against, len(kept), found)


def math_verify(completion: str, reference: Any) -> Verdict:
    """Return the verdict of the library math-verify with its defaults; unknown for a reference it cannot parse."""
    with uncounted():
        import math_verify as baseline

    answer = reference_answer(str(reference))
    is_delimited = "$" in answer or "\\(" in answer or "\\[" in answer or "\\boxed" in answer
    expected = baseline.parse(answer if is_delimited else f"${answer}$")
    if not expected:
        return Verdict.unknown("bad_reference")
    target = baseline.parse(completion)
    # It extracts sympy objects, whose str() may take forever, and last the text itself.
    text = next((part for part in reversed(target) if isinstance(part, str)), None)
    if not target:
        return Verdict.incorrect("no_answer")
    is_same = bool(baseline.verify(expected, target))
    return Verdict.correct(text) if is_same else Verdict.incorrect("mismatch", text)


def main(arguments: Sequence[str]) -> None:
    """Run the command line of an audit and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m verifiers audit", description=__doc__)
    parser.add_argument("name", help="a verifier")
    parser.add_argument("file", help="a JSONL file of {id, completion, reference}")
    parser.add_argument("--against", required=True, help="another verifier, or math_verify")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument("--timeout", type=float, help="seconds an item (default: each verifier's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(arguments)
    for name in (args.name, _BASELINES.get(args.against, args.against)):
        registry.get(name)  # a misspelt name fails before anything is read
    with open(args.file, encoding="utf-8") as lines:
        rows = list(file_scores.read_rows(lines, args.file))
    found = audit(args.name, rows, against=args.against, workers=args.workers, timeout=args.timeout)
    print(json.dumps(found.as_json(), ensure_ascii=False) if args.json else found.as_text())
