"""Terminal tables of the frontier."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

from rich.table import Table
from rich.text import Text

from star_rft.frontier.classes import PromptClass
from star_rft.report.terminal import PROMPT_SHOWN, slim_table

ANSWER_SHOWN, ROUNDS_SHOWN = 20, 4
# The beginning of an id, which the command takes too.
ID_SHOWN = 8


def classes_table(
    counts: Mapping[PromptClass, int], by_round: Mapping[str, Sequence[int]], remedies: Mapping[PromptClass, str]
) -> Table:
    """How many prompts are of each class now and were after the last rounds, and what is being done about them."""
    table = slim_table("Train prompts by class", "class", "prompts", "after each round")
    table.add_column("what they get next")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", _series(by_round.get(name, ())), remedies[name])
    return table


def moved_line(was: str, since: int, now: Mapping[str, int]) -> str:
    """Where the prompts of a class went."""
    parts = ", ".join(f"{count} {name}" for name, count in now.items())
    return f"Of the {sum(now.values())} prompts that were {was} after round {since}, now: {parts}."


def prompts_table(rows: Sequence[Mapping[str, Any]], more: int) -> Table:
    """Prompts with their class, their history and the 95% interval of their pass rate."""
    table = slim_table("Prompts, class by class, hardest first", "problem", "class", "by round", "pass rate")
    table.add_column("prompt", no_wrap=True)
    for row in rows:
        prompt = shorten(row["prompt"] or "", PROMPT_SHOWN, placeholder="...")
        table.add_row(row["problem_id"][:ID_SHOWN], row["class"], _history(row), _rate(row), Text(prompt))
    return _whole(table, more)


def suspects_table(rows: Sequence[Mapping[str, Any]], more: int) -> Table:
    """Suspect references, with the answer that the samples give instead."""
    names = ("problem", "reference", "samples say", "votes", "for it", "wrong gold")
    table = slim_table("References that the samples contradict with one voice", *names)
    for row in rows:
        table.add_row(
            row["problem_id"][:ID_SHOWN],
            shorten(_reference(row), ANSWER_SHOWN, placeholder="..."),
            shorten(str(row["other_answer"]), ANSWER_SHOWN, placeholder="..."),
            f"{row['other_votes']} of {row['all_votes']}",
            f"{row['gold_votes']}",
            "-" if row["wrong_gold_probability"] is None else f"{row['wrong_gold_probability']:.2f}",
        )
    return _whole(table, more)


def _whole(table: Table, more: int) -> Table:
    """Keep all but the last column whole on a narrow terminal, and say what is not shown."""
    for column in table.columns[:-1]:
        column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    if more:
        table.caption = f"and {more:,} more; --limit shows more, --json all, a problem's id one in full"
    return table


def prompt_lines(row: Mapping[str, Any], remedy: str) -> Iterator[str]:
    """One prompt in full: what it is, what it came to, what it gets next, and its attempts."""
    yield f"{row['problem_id']}: {row['class']}; {remedy}"
    yield f"{row['prompt']}"
    yield f"reference: {_reference(row)}"
    if row["other_answer"] is not None:
        votes = f"{row['other_votes']} of {row['all_votes']} samples, {row['gold_votes']} the reference"
        yield f"most frequent other answer: {row['other_answer']} ({votes})"
    yield f"by round: {_history(row) or 'never sampled'}; pass rate {_rate(row)}; {row['distinct']} distinct correct"
    for attempt in row["attempts"]:
        kind = " with a hint" if attempt["hinted"] else ""
        why = f"; {attempt['why']}" if attempt["why"] else ""
        verdict = f"{attempt['status']} ({attempt['reason']}), answer {attempt['answer']}, {attempt['tokens']} tokens"
        yield f"\n[round {attempt['round']}, attempt {attempt['attempt']}{kind}] {verdict}{why}"
        yield attempt["text"].strip()


def doubts_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Doubted traces to read, each with its reasons."""
    for row in rows:
        where = f"{row['sample_id']} (problem {row['problem_id']}, round {row['in_round']})"
        yield f"\n{where}: {row['kind']}: {row['detail']}"
        yield f"question: {row['prompt']}"
        yield f"reference: {_reference(row)}"
        yield row["text"].strip()


def _reference(row: Mapping[str, Any]) -> str:
    """The ledger holds references as JSON."""
    found = json.loads(row["reference"]) if row["reference"] else None
    return found if isinstance(found, str) else json.dumps(found)


def _series(counts: Sequence[int]) -> str:
    earlier = "... " if len(counts) > ROUNDS_SHOWN else ""
    return earlier + " ".join(map(str, counts[-ROUNDS_SHOWN:]))


def _history(row: Mapping[str, Any]) -> str:
    earlier = "... " if len(row["rounds"]) > ROUNDS_SHOWN else ""
    return earlier + " ".join(f"{r['correct']}/{r['samples']}" for r in row["rounds"][-ROUNDS_SHOWN:])


def _rate(row: Mapping[str, Any]) -> str:
    if row["pass_mean"] is None:
        return "-"
    return f"{row['pass_mean']:.2f} [{row['pass_low']:.2f}, {row['pass_high']:.2f}]"
