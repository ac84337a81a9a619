"""The first thing that the page says: did it get better, by how much, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from star_rft.report.facts import Facts
from star_rft.types import Interval, RoundReport

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name and what it means; `tone` is "good", "bad" or "" where it is neither."""

    name: str
    value: str
    more: str
    tone: str = ""


def chosen_round(facts: Facts) -> int:
    """Return the round whose model is the one to use: the gate's, else the newest."""
    if not facts.reports:
        return 0
    gate = facts.reports[-1].gate
    return facts.reports[-1].round if gate is None else int(gate["model_round"])


def tiles(facts: Facts) -> Iterator[Tile]:
    """Yield what there is to say; nothing is said that was not measured."""
    by_round = {report.round: report for report in facts.reports}
    chosen = by_round.get(chosen_round(facts))
    scored = [report for report in facts.reports if report.held_out]
    if scored and chosen is not None and chosen.held_out is not None:
        yield from _scores(scored[0], chosen)
    trained = [report for report in facts.trained if report.no_survivors_interval]
    if trained:
        first, last = trained[0], trained[-1]
        way = _way(first.no_survivors_interval, last.no_survivors_interval, ".1%")
        yield Tile("prompts without survivors", way, f"{_rounds(first.round, last.round)}, of those sampled")
    tokens, seconds = sum(facts.tokens.values()), sum(sum(report.seconds.values()) for report in facts.reports)
    if tokens:
        yield Tile("cost", duration(seconds) if seconds else "-", f"{tokens:,} tokens sampled{_where(facts)}")
    if facts.unknown:
        yield Tile("unknown verdicts", f"{facts.unknown:,}", "the verifier failed there, not the model", "bad")


def _scores(base: RoundReport, chosen: RoundReport) -> Iterator[Tile]:
    before, after = base.held_out, chosen.held_out
    assert before is not None
    assert after is not None
    low, high = after.pass_at_1_interval.low, after.pass_at_1_interval.high
    yield Tile(
        "pass@1, held out",
        _way(before.pass_at_1_interval, after.pass_at_1_interval, ".3f"),
        f"[{low:.3f}, {high:.3f}] on {after.problems:,} problems",
    )
    change = after.vs_base
    if change is not None and chosen.round != base.round:
        tone = "good" if change.low > 0 else "bad" if change.high < 0 else ""
        interval = f"95% interval [{change.low:+.3f}, {change.high:+.3f}], paired"
        yield Tile("change", f"{change.value:+.3f}", interval, tone)
    largest = max(map(int, after.pass_at_k))
    if largest > 1 and str(largest) in before.pass_at_k:
        values = [scores.pass_at_k[str(largest)] for scores in (before, after)]
        yield Tile(f"pass@{largest}", f"{values[0]:.3f} → {values[1]:.3f}", "does it still find other ways?")


def _way(before: Interval | None, after: Interval | None, form: str) -> str:
    assert before is not None
    assert after is not None
    if before == after:
        return f"{after.value:{form}}"
    return f"{before.value:{form}} → {after.value:{form}}"


def _rounds(first: int, last: int) -> str:
    return f"round {first}" if first == last else f"round {first} to {last}"


def _where(facts: Facts) -> str:
    machine = facts.config.get("machine") or {}
    return f" on {machine['device']}" if "device" in machine else ""


def duration(seconds: float) -> str:
    """Return "48 s", "2 min 6 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR:,} h {whole % HOUR // MINUTE} min"
