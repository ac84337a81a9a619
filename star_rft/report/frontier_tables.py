"""Terminal tables of the frontier, of flagged traces, and of a round with its controls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any

from rich.table import Table
from rich.text import Text

from star_rft.experiments.contributions import Contribution, RoundContributions
from star_rft.frontier.classes import ProblemClass
from star_rft.report.tables import QUESTION_SHOWN, signed, slim_table
from star_rft.types import Interval

ANSWER_SHOWN, ROUNDS_SHOWN = 20, 4
# The beginning of an id, which the command takes too.
ID_SHOWN = 8


def classes_table(
    counts: Mapping[ProblemClass, int], by_round: Mapping[str, Sequence[int]], remedies: Mapping[ProblemClass, str]
) -> Table:
    """Return how many problems are of each class, now and after the last rounds, and what they get next."""
    table = slim_table("Train problems by class", "class", "problems", "after each round")
    table.add_column("what they get next")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", _series(by_round.get(name, ())), remedies[name])
    return table


def moved_line(was: str, since: int, now: Mapping[str, int]) -> str:
    """Return which classes the problems of a class are in now."""
    parts = ", ".join(f"{count} {name}" for name, count in now.items())
    return f"Of the {sum(now.values())} problems that were {was} after round {since}, now: {parts}."


def problems_table(rows: Sequence[Mapping[str, Any]], more: int) -> Table:
    """Return problems with their class, their history and the 95% interval of their pass rate."""
    table = slim_table("Problems, class by class, hardest first", "problem", "class", "by round", "pass rate")
    table.add_column("question", no_wrap=True)
    for row in rows:
        question = shorten(row["prompt"] or "", QUESTION_SHOWN, placeholder="...")
        table.add_row(row["problem_id"][:ID_SHOWN], row["class"], _history(row), _rate(row), Text(question))
    return _whole(table, more)


def label_errors_table(rows: Sequence[Mapping[str, Any]], more: int) -> Table:
    """Suspected label errors, with the answer that the samples give instead."""
    names = ("problem", "reference", "samples say", "votes", "for it", "label error")
    table = slim_table("References that the samples contradict", *names)
    for row in rows:
        table.add_row(
            row["problem_id"][:ID_SHOWN],
            shorten(_reference(row["reference"]), ANSWER_SHOWN, placeholder="..."),
            shorten(str(row["other_answer"]), ANSWER_SHOWN, placeholder="..."),
            f"{row['other_votes']} of {row['all_votes']}",
            f"{row['reference_votes']}",
            "-" if row["label_error_probability"] is None else f"{row['label_error_probability']:.2f}",
        )
    return _whole(table, more)


def _whole(table: Table, more: int) -> Table:
    """Keep all but the last column whole on a narrow terminal, and add how many rows are not shown."""
    for column in table.columns[:-1]:
        column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    if more:
        table.caption = f"and {more:,} more; --limit shows more, --json all, a problem's id one in full"
    return table


def _reference(reference: str | None) -> str:
    """Return a reference, which the ledger holds as JSON, in one line: text as it is, an object as JSON."""
    found = json.loads(reference) if reference else None
    return "none" if found is None else found if isinstance(found, str) else reference or ""


def problem_lines(row: Mapping[str, Any], remedy: str) -> Iterator[str]:
    """Yield one problem in full: its class, its results by round, what it gets next, and its traces."""
    yield f"{row['problem_id']}: {row['class']}; {remedy}"
    yield f"{row['prompt']}"
    yield f"reference: {_reference(row['reference'])}"
    if row["other_answer"] is not None:
        votes = f"{row['other_votes']} of {row['all_votes']} samples, {row['reference_votes']} the reference"
        yield f"most frequent other answer: {row['other_answer']} ({votes})"
    yield f"by round: {_history(row) or 'never sampled'}; pass rate {_rate(row)}; {row['distinct']} distinct correct"
    for trace in row["traces"]:
        kind = " with a hint" if trace["hinted"] else ""
        why = f"; {trace['why']}" if trace["why"] else ""
        verdict = f"{trace['status']} ({trace['reason']}), answer {trace['answer']}, {trace['tokens']} tokens"
        yield f"\n[round {trace['round']}, sample {trace['sample_index']}{kind}] {verdict}{why}"
        yield trace["text"].strip()


def flagged_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Flagged traces to read, each with its reasons."""
    for row in rows:
        where = f"{row['sample_id']} (problem {row['problem_id']}, round {row['in_round']})"
        yield f"\n{where}: {row['kind']}: {row['detail']}"
        yield f"question: {row['prompt']}"
        yield f"reference: {_reference(row['reference'])}"
        yield row["text"].strip()


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


# Differences in the tokens that were trained on, above which they are said.
WORTH_SAYING = 0.005


def scores_table(found: RoundContributions) -> Table:
    """Held-out scores of the round's model and of each control; fits 80 columns."""
    title = f"Round {found.round} and its controls: {found.problems} problems of {found.split} x {found.n} samples"
    table = slim_table(title, "trained on", "seed", "pass@1", f"pass@{found.k}", "change from its start")
    if found.start is not None and found.start_at_k is not None:
        name = f"start: round {found.of_round.cost.started_from}"
        table.add_row(name, "", _with_range(found.start), f"{found.start_at_k.value:.3f}", "")
    for row in (found.of_round, *found.controls):
        table.add_row(
            row.cost.name,
            str(row.cost.seed),
            _with_range(row.pass_at_1),
            f"{row.pass_at_k.value:.3f}",
            "-" if row.vs_start is None else signed(row.vs_start),
        )
    return table


def costs_table(found: RoundContributions) -> Table:
    """Return what each model cost; samples that a control has from its round are not drawn again.

    `passes` is how often each example was seen, as if every step were full.
    """
    names = ("trained on", "seed", "samples", "tokens", "examples", "passes", "steps", "step tokens")
    table = slim_table("What each cost (0 samples: those of the round, or none)", *names)
    loop = [found.loop] if _has_at_once(found) else []
    for cost in (found.of_round.cost, *loop, *(row.cost for row in found.controls)):
        drawn, passes = (cost.samples, cost.tokens, cost.examples), found.batch_size * cost.steps / cost.examples
        counts = [f"{count:,}" for count in drawn]
        table.add_row(
            cost.name, str(cost.seed), *counts, f"{passes:.1f}", f"{cost.steps:,}", f"{cost.trained_tokens:,}"
        )
    return table


def contribution_lines(found: RoundContributions) -> list[str]:
    """Return what each control shows of the round, a line a control."""
    return [_said(one, found.k) for one in found.contributions]


def _said(one: Contribution, k: int) -> str:
    seeds = f" (mean of {len(one.seeds)} seeds)" if len(one.seeds) > 1 else ""
    unclear = "; the interval of pass@1 holds 0" if one.pass_at_1.low <= 0 <= one.pass_at_1.high else ""
    at_k = f", {signed(one.pass_at_k)} pass@{k}" if k > 1 else ""
    return f"{one.of}: {signed(one.pass_at_1)} pass@1{at_k} against {one.against}{seeds}{unclear}"


def unmatched_lines(found: RoundContributions) -> Iterator[str]:
    """Yield what is equal in the round and its controls, and what is not."""
    steps, loop = found.of_round.cost.steps, found.loop
    of_loop = f" (at_once: the loop's first model and all its {loop.steps} steps)" if _has_at_once(found) else ""
    yield f"Equal: the model at the start, the settings, the {steps} steps{of_loop}."
    names = dict.fromkeys(row.cost.name for row in found.controls)
    if different := [text for name in names if (text := _more_tokens(found, name))]:
        yield f"Not equal: the tokens trained on, for texts differ in length: {', '.join(different)}."
    if once := [row.cost for row in found.controls if row.cost.name == "at_once"]:
        samples, tokens = _span([cost.samples for cost in once]), _span([cost.tokens for cost in once])
        yield (
            f"Not equal: at_once drew {samples} samples of {tokens} tokens, the loop {loop.samples:,} of"
            f" {loop.tokens:,}; its rules select once (a cap of n is n in all, not n a round), so equal steps are more"
            " passes over fewer examples; and it has one learning-rate schedule, the loop one a round."
        )
    if found.compares:
        yield "Training on comparisons followed, on the round's own (at_once: its own); steps and tokens leave it out."
    if len({row.cost.seed for row in found.controls}) == 1:
        yield "Intervals are over problems. How much a training varies by its seed shows with more than one --seed."
    else:
        yield "Intervals are over problems. The round itself was trained once, with the seed of the run."


def _more_tokens(found: RoundContributions, name: str) -> str | None:
    """Return how many more tokens a control trained on, over its seeds; None if hardly any."""
    match = found.loop if name == "at_once" else found.of_round.cost
    more = [row.cost.trained_tokens / match.trained_tokens - 1 for row in found.controls if row.cost.name == name]
    if max(map(abs, more)) < WORTH_SAYING:
        return None
    low, high = f"{min(more):+.1%}", f"{max(more):+.1%}"
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _has_at_once(found: RoundContributions) -> bool:
    return any(row.cost.name == "at_once" for row in found.controls)


def _with_range(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.2f}, {interval.high:.2f}]"
