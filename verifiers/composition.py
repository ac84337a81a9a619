"""Verifiers made of other verifiers: the shared part of `all`, `any`, `fallback` and `disagree`.

Their option `of` is a list; each entry is a name, or `{"name": ..., "options": {...}, "reference": key}` where
`reference` picks one value of a reference that is an object. A wrong entry raises before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from verifiers.registry import Check, UnknownOption, get
from verifiers.types import Verdict
from verifiers.workers.pool import OWN_LIMIT_GRACE
from verifiers.workers.worker import run_check

_KEYS = ("name", "options", "reference")


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of `of`. `reference` is the key of the part's own reference, or None where it takes the whole."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None

    def verdict(self, completion: str, reference: Any) -> Verdict:
        """Return the part's verdict; where it raises, an unknown one with the error as its answer."""
        if self.reference is not None:
            if not isinstance(reference, Mapping) or self.reference not in reference:
                return Verdict.unknown("bad_reference", f"{self.name}: no {self.reference!r}")
            reference = reference[self.reference]
        verdict, message = run_check(get(self.name), completion, reference, self.options)
        if message is not None:
            last_line = message.strip().rpartition("\n")[2]
            return replace(verdict, answer=f"{self.name}: {last_line}")
        return verdict

    def problem(self, check: Check, reference: Any) -> str | None:
        """Return what is wrong with this part's reference, or None."""
        if self.reference is not None:
            if not isinstance(reference, Mapping) or self.reference not in reference:
                return f"a reference must be an object with the key {self.reference!r}, for {self.name}"
            reference = reference[self.reference]
        found = check.reference_problem(reference) if check.reference_problem else None
        return f"{self.name}: {found}" if found else None


def read_parts(of: Any) -> list[Part]:
    """Return the entries of an option `of`; raise UnknownOption where it is malformed."""
    if not isinstance(of, (list, tuple)) or not of:
        raise UnknownOption(f"option 'of' must be a list of verifiers such as ['math', 'steps'], not {of!r}")
    return [_read_part(entry) for entry in of]


def _read_part(entry: Any) -> Part:
    if isinstance(entry, str):
        return Part(entry)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise UnknownOption(f"an entry of 'of' must be a name or {{'name': ..., 'options': ...}}, not {entry!r}")
    if unknown := sorted(set(map(str, entry)) - set(_KEYS)):
        raise UnknownOption(f"an entry of 'of' has no key {unknown[0]!r}; valid: {', '.join(_KEYS)}")
    if not isinstance(entry.get("options", {}), Mapping):
        raise UnknownOption(f"the options of {entry['name']!r} must be a mapping, not {entry['options']!r}")
    return Part(entry["name"], dict(entry.get("options", {})), entry.get("reference"))


def bind(check: Check, given: Mapping[str, Any], *, count: int | None = None, needs_all: bool = True) -> Check:
    """Return a composition for its option `of`: its time limit is the sum of the parts', its version names theirs.

    `count` is how many parts there must be. A reference is bad that any part cannot use, or without `needs_all`, that
    no part can use.
    """
    entries = read_parts(given["of"])
    if count is not None and len(entries) != count:
        raise UnknownOption(f"option 'of' of verifier {check.name!r} must name {count} verifiers, not {len(entries)}")
    checks = [get(entry.name).bound(entry.options) for entry in entries]
    warm_ups = [part.warm_up for part in checks if part.warm_up]
    problems = [partial(entry.problem, part) for entry, part in zip(entries, checks, strict=True)]
    return replace(
        check,
        version=f"{check.version}({', '.join(f'{part.name} {part.version}' for part in checks)})",
        timeout=sum(_limit(entry, part) for entry, part in zip(entries, checks, strict=True)),
        warm_up=partial(_run_each, warm_ups) if warm_ups else None,
        reference_problem=partial(_first_problem, problems, needs_all),
        # A worker registers the parts by name; those of nested compositions come before the ones that use them.
        parts=tuple(named for part in checks for named in (*part.parts, replace(part, parts=(), bind=None))),
    )


def _limit(entry: Part, check: Check) -> float:
    if check.time_option is None:
        return check.timeout
    return float(entry.options.get(check.time_option, check.timeout)) + OWN_LIMIT_GRACE


def _run_each(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _first_problem(problems: Sequence[Callable[[Any], str | None]], needs_all: bool, reference: Any) -> str | None:
    found = [problem(reference) for problem in problems]
    if not needs_all and None in found:
        return None
    return next((text for text in found if text), None)


def verdicts(of: Any, completion: str, reference: Any) -> Iterator[Verdict]:
    """Yield the verdicts of the parts in their order; a part runs only when its verdict is asked for."""
    for part in read_parts(of):
        yield part.verdict(completion, reference)


def first_of(of: Any, completion: str, reference: Any, *, decisive: str) -> Verdict:
    """Return the first verdict with the status `decisive`; else the first unknown one; else the first.

    Parts after a decisive one do not run. In the last case the score is the smallest of all scores, or with
    `decisive="correct"` the largest.
    """
    found: list[Verdict] = []
    for verdict in verdicts(of, completion, reference):
        if verdict.status == decisive:
            return verdict
        found.append(verdict)
    for verdict in found:
        if verdict.status == "unknown":
            return verdict
    scores = [verdict.score for verdict in found if verdict.score is not None]
    score = (max if decisive == "correct" else min)(scores) if scores else None
    return replace(found[0], score=score)
