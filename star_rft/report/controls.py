"""A round beside its matched controls, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from star_rft.experiments.compare import Comparison, Contribution
from star_rft.report.terminal import slim_table
from star_rft.types import Interval

# Differences in the tokens that were trained on, above which they are said.
WORTH_SAYING = 0.005


def scores_table(found: Comparison) -> Table:
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


def costs_table(found: Comparison) -> Table:
    """What each model took; samples that a control has from its round are not drawn again.

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


def contribution_lines(found: Comparison) -> list[str]:
    """Say what each control says of the round."""
    return [_said(one, found.k) for one in found.contributions]


def _said(one: Contribution, k: int) -> str:
    seeds = f" (mean of {len(one.seeds)} seeds)" if len(one.seeds) > 1 else ""
    unclear = "; the interval of pass@1 holds 0" if one.pass_at_1.low <= 0 <= one.pass_at_1.high else ""
    at_k = f", {signed(one.pass_at_k)} pass@{k}" if k > 1 else ""
    return f"{one.of}: {signed(one.pass_at_1)} pass@1{at_k} against {one.against}{seeds}{unclear}"


def unmatched_lines(found: Comparison) -> Iterator[str]:
    """Say what is equal and what is not."""
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


def _more_tokens(found: Comparison, name: str) -> str | None:
    """Say how many more tokens a control trained on, from its least seed to its most; None where hardly any."""
    match = found.loop if name == "at_once" else found.of_round.cost
    more = [row.cost.trained_tokens / match.trained_tokens - 1 for row in found.controls if row.cost.name == name]
    if max(map(abs, more)) < WORTH_SAYING:
        return None
    low, high = f"{min(more):+.1%}", f"{max(more):+.1%}"
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _has_at_once(found: Comparison) -> bool:
    return any(row.cost.name == "at_once" for row in found.controls)


def _with_range(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.2f}, {interval.high:.2f}]"


def signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
