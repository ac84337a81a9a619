"""benchmarks/RESULTS.md from the records of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from figures import Figure

Status = Literal["measured", "missing", "failed"]

HEAD = """# Results

Written by `make bench` (`python benchmarks/run_all.py`), which runs what follows one after the other on one machine;
not to be edited. Values are medians (least to most) of repeats, which are interleaved with those of the baseline in one
process; those of vLLM come after. The last column says how many times better star-rft's median is: below 1 the baseline
is better.
"""
BRIEF = "\n**A trial with small sizes: it shows that each row works, and its values say nothing.**\n"


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a row. `said` is what is missing, or how it failed; `command` is free of this machine's paths."""

    name: str
    title: str
    command: str
    status: Status
    said: str = ""
    seconds: float = 0.0
    date: str = ""
    commit: str = ""
    load: float = 0.0
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Record:
        return cls(**{**stored, "figures": [Figure(**one) for one in stored["figures"]]})


def page(records: Sequence[Record], *, is_brief: bool = False) -> str:
    """Return the page; rows come in the order of the records."""
    measured = [record for record in records if record.status == "measured"]
    parts = [HEAD + (BRIEF if is_brief else "")]
    if measured:
        newest = max(measured, key=lambda record: record.date)
        parts.append(surroundings(newest, measured))
        parts += ["\n".join(section(record, newest.machine)) + "\n" for record in records]
    else:
        parts += ["\n".join(section(record, {})) + "\n" for record in records]
    return "\n".join(parts)


def surroundings(newest: Record, measured: Sequence[Record]) -> str:
    versions: dict[str, str] = {}
    for record in measured:
        versions |= record.versions
    rows = {
        **newest.machine,
        "versions": ", ".join(f"{name} {value}" for name, value in sorted(versions.items())),
        "commit": ", ".join(sorted({record.commit for record in measured})),
        "date": newest.date[:10],
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in rows.items())]) + "\n"


def section(record: Record, usual_machine: Mapping[str, str]) -> Iterator[str]:
    yield f"## {record.title}\n"
    yield f"`{record.command}`\n"
    if record.status == "missing":
        yield f"Not measured: {record.said}."
        return
    if record.status == "failed":
        yield f"Failed: {record.said}."
        return
    yield from table(record.figures)
    yield ""
    for note in record.notes:
        yield f"- {note}"
    if record.machine != usual_machine:
        yield f"- on another machine: {', '.join(record.machine.values())}"
    yield (
        f"- {record.seconds:.0f} s on {record.date[:10]} at commit {record.commit};"
        f" load of the machine before it {record.load:.1f}"
    )


def table(figures: Sequence[Figure]) -> Iterator[str]:
    yield "| measured | star-rft | baseline | star-rft is better by |"
    yield "|---|---|---|---|"
    for figure in figures:
        ours = spread(figure.ours, figure.unit)
        for place, baseline in enumerate(figure.baselines or [None]):
            first = (cell(figure.what), ours) if place == 0 else ("", "")
            if baseline is None:
                yield f"| {first[0]} | {first[1]} | | |"
                continue
            ratio = figure.ratio(baseline)
            better = "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"
            theirs = f"{cell(baseline)}: {spread(figure.baselines[baseline], figure.unit)}"
            yield f"| {first[0]} | {first[1]} | {theirs} | {better} |"


def spread(values: Sequence[float], unit: str) -> str:
    """Return the median, with the least and the most where there are several, and the unit."""
    if not math.isfinite(median(values)):
        return "not reached"
    middle = number(median(values))
    if len(values) > 1:
        middle += f" ({number(min(values))} to {number(max(values))})"
    return f"{middle} {unit}"


def number(value: float) -> str:
    """Return a value as a reader wants it: three digits, or whole where it is 100 or more."""
    if not math.isfinite(value):
        return "never"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def cell(text: str) -> str:
    return text.replace("|", "\\|")
