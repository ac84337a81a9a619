"""The gate: decides from recorded outcomes on data.dev whether the model of a round is kept.

It tests pass@1 and pass@k (of the largest k), each as the mean difference on the same problems with its 95% bootstrap
interval, against the *reference* of that figure: the latest kept round that was significantly better than the reference
before it; the first evaluated round is the first reference. A comparison with the round of the highest mean would be
with the luckiest one: about 9% of five equal rounds would be rolled back instead of 2.5%. As the reference stays until
a round is significantly better, many small losses add up to one that is significant.

After a round that is rolled back the loop continues from the *best* round: the kept one with the highest pass@1, the
earliest of equal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Literal

from star_rft.evaluation import by_problem
from star_rft.statistics import bootstrap, pass_at_k, summed_pass_at_k
from star_rft.types import Interval

Action = Literal["keep", "stop", "roll_back", "warn"]

# The smallest number of changed problems for an interval to count. Where five problems changed, all in one
# direction, a sign test has p = 2 * 2^-5 = 0.06, but every resample of the bootstrap that has one of them agrees.
CHANGED = 6


@dataclass(frozen=True, slots=True)
class Gate:
    """The settings of the gate; None turns a warning off.

    Attributes:
        patience: Evaluated rounds in a row without a significant gain after which the run ends; None: it does not.
        k: The k of pass@k; None: the number of samples.
        rolls_back: A significant loss rolls a round back. False: it is only a warning.
        collapse_rolls_back: So does a loss of pass@k without one of pass@1. False: that is only a warning.
        tolerance: A fall is a loss where its whole interval is below -tolerance. On many problems a fall of 0.001 is
            significant, and the next round may make up for a small one: the second round of configs/quickstart.yaml
            falls by 0.040 [0.010, 0.070] at pass@8, and the third recovers.
        saturation: Warn above this share of saturated train problems.
        diversity: Warn below this share of the diversity of the first round that measured it.
        kl: Warn above this KL from the model of round 0, in nats a token.
    """

    patience: int | None = 2
    k: int | None = None
    rolls_back: bool = True
    collapse_rolls_back: bool = True
    tolerance: float = 0.02
    saturation: float | None = 0.9
    diversity: float | None = 0.5
    kl: float | None = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of the `n` samples of one held-out problem."""

    n: int
    correct: int
    unknown: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Signs:
    """Figures that only lead to warnings; None, or a missing figure, was not measured.

    Attributes:
        saturated: Share of train problems whose samples are all correct or all incorrect.
        diversity: Figures by name that do not fall where a model gets better, such as `distinct_solutions` of
            `diversity.py`. N-grams and entropy are none: they fall as answers become correct.
        kl: KL from the model of round 0, in nats a token.
    """

    saturated: float | None = None
    diversity: Mapping[str, float] = field(default_factory=dict)
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class RoundEvidence:
    """An evaluated round: outcomes on data.dev by problem id, and whether the decision on it rolled it back."""

    round: int
    outcomes: Mapping[str, Outcome]
    rolled_back: bool = False
    signs: Signs = Signs()


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on a round, in plain values that JSON can hold; `Decision(**raw)` reads them back.

    Attributes:
        action: What is done. A round that is rolled back may also end the run: then it is `stop`, with `rolled_back`.
        rule: The rule that led to it, with its figures, as a sentence.
        evidence: The figures.
        model_round: The round whose model the next round starts from, and after `stop` the one to use.
        rolled_back: The model of this round is not used further.
        warnings: Sentences.
    """

    action: Action
    rule: str
    evidence: dict[str, Any]
    model_round: int
    rolled_back: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of pass@k from an earlier round.

    Attributes:
        k: The k.
        against: The earlier round.
        problems: How many problems both rounds have.
        interval: The mean difference, with unknown verdicts as not correct.
        is_gain: It is a significant gain, see `compare`.
        is_loss: It is a significant loss of more than the tolerance.
    """

    k: int
    against: int
    problems: int
    interval: Interval
    is_gain: bool
    is_loss: bool

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return (
            f"pass@{self.k} {self.interval.value:+.3f} [{low:+.3f}, {high:+.3f}]"
            f" against round {self.against} on {self.problems} problems"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures for `Decision.evidence`."""
        found = {"k": self.k, "against": self.against, "problems": self.problems}
        interval = {"value": self.interval.value, "low": self.interval.low, "high": self.interval.high}
        return {**found, **interval, "is_gain": self.is_gain, "is_loss": self.is_loss}


def evaluated(
    round_index: int, rows: Sequence[Mapping[str, Any]], *, rolled_back: bool = False, signs: Signs | None = None
) -> RoundEvidence:
    """Return the record of a round from its rows of eval.parquet, as `evaluate.read(path, "dev")` gives them."""
    names = ("n", "correct", "unknown", "truncated")
    outcomes = {row["problem_id"]: Outcome(*(row[name] for name in names)) for row in rows}
    return RoundEvidence(round_index, outcomes, rolled_back, signs or Signs())


def decide(gate: Gate, round_index: int, history: Sequence[RoundEvidence]) -> Decision:
    """Decide whether the model of a round is kept, and from which model the run continues.

    Args:
        gate: The settings.
        round_index: The round.
        history: The evaluated rounds in order, from the first (the base) to this one.

    Raises:
        ValueError: Two rounds have no problem in common.
    """
    if not history:
        return Decision("keep", "there is no evaluation on data.dev to decide by", {}, round_index)
    *earlier, now = history
    if now.round != round_index:
        return Decision("keep", f"round {round_index} was not evaluated: it is kept unseen", {}, round_index)
    if not earlier:
        rule = "the first evaluated round: there is nothing to compare it with"
        return Decision("keep", rule, {"best": round_index, "without_gain": 0}, round_index)
    return _decide(gate, now, earlier)


def _decide(gate: Gate, now: RoundEvidence, earlier: Sequence[RoundEvidence]) -> Decision:
    k = _largest_k(gate, [*earlier, now])
    before = _earlier_comparisons(earlier, k)
    at_1, at_k = (compare(now, then, i, gate.tolerance) for then, i in ((before.at_1, 1), (before.at_k, k)))
    below_from = crossing(now, before.at_k, k)
    loss = _loss(at_1, at_k, now, before.at_k, below_from)
    rolled_back = loss is not None and gate.rolls_back and (at_1.is_loss or gate.collapse_rolls_back)
    gains = [change for change in (at_1, at_k) if change.is_gain]
    without_gain = 0 if gains and not rolled_back else before.without_gain + 1
    best = _best(earlier if rolled_back else [*earlier, now])
    warnings = [*_small_falls(at_1, at_k, loss, below_from), *_warnings(gate, now, earlier, before.at_1)]
    if loss is not None and not rolled_back:
        warnings.insert(0, f"{loss}; it is kept, as the settings say")
    evidence = {
        "pass_at_1": at_1.as_json(),
        "pass_at_k": at_k.as_json(),
        "crossing": below_from,
        "best": best.round,
        "without_gain": without_gain,
        "patience": gate.patience,
    }
    decided = partial(Decision, evidence=evidence, rolled_back=rolled_back, warnings=warnings)
    if gate.patience is not None and without_gain >= gate.patience:
        rounds = f"{without_gain} evaluated round{'s' if without_gain > 1 else ''} in a row without a significant gain"
        rule = f"{rounds} (patience {gate.patience}); {loss or f'this one: {at_1}'}; the best is round {best.round}"
        return decided("stop", rule, model_round=best.round)
    if rolled_back:
        return decided("roll_back", f"{loss}; back to round {best.round}", model_round=best.round)
    why = f"a significant gain: {gains[0]}" if gains else f"neither a significant gain nor a loss: {at_1}"
    return decided("warn" if warnings else "keep", loss or why, model_round=now.round)


def compare(now: RoundEvidence, then: RoundEvidence, k: int, tolerance: float = 0.0) -> Change:
    """Return the change of pass@k between two rounds on the problems that both have.

    A fault of the verifier is no evidence against a model. So for `is_loss` the unknown verdicts that a problem has in
    `now` and not in `then` count as correct, and for `is_gain` those that it has in `then` and not in `now`. Unknown
    verdicts of both, as with a bad reference, cancel out.

    Args:
        now: The round that is asked about.
        then: The earlier round.
        k: The k.
        tolerance: A loss is larger than this.

    Raises:
        ValueError: They have no problem in common.
    """
    ids = sorted(now.outcomes.keys() & then.outcomes.keys())
    if not ids:
        raise ValueError(f"rounds {then.round} and {now.round} were not evaluated on one common problem")
    pairs = [(now.outcomes[i], then.outcomes[i]) for i in ids]
    reported = [_at_k(a, k) - _at_k(b, k) for a, b in pairs]
    best_for_now = [_at_k(a, k, a.unknown - b.unknown) - _at_k(b, k) for a, b in pairs]
    best_for_then = [_at_k(a, k) - _at_k(b, k, b.unknown - a.unknown) for a, b in pairs]
    interval = bootstrap(reported)
    return Change(
        k=k,
        against=then.round,
        problems=len(ids),
        interval=interval,
        is_gain=_is_evidence(best_for_then, lambda found: found.low > 0),
        is_loss=_is_evidence(best_for_now, lambda found: found.high < -tolerance),
    )


def crossing(now: RoundEvidence, then: RoundEvidence, largest: int) -> int | None:
    """Return the smallest k up to `largest` at which mean pass@k is below an earlier round's; None without one."""
    after, before = ({i: (one.correct, one.n) for i, one in past.outcomes.items()} for past in (now, then))
    return by_problem.crossing(after, before, largest=largest)


@dataclass(frozen=True, slots=True)
class _Comparisons:
    """The references of pass@1 and pass@k, and how many evaluated rounds in a row were better than neither."""

    at_1: RoundEvidence
    at_k: RoundEvidence
    without_gain: int


def _earlier_comparisons(earlier: Sequence[RoundEvidence], k: int) -> _Comparisons:
    at_1 = at_k = earlier[0]
    without_gain = 0
    for past in earlier[1:]:
        gains_1 = not past.rolled_back and compare(past, at_1, 1).is_gain
        gains_k = not past.rolled_back and compare(past, at_k, k).is_gain
        at_1, at_k = past if gains_1 else at_1, past if gains_k else at_k
        without_gain = 0 if gains_1 or gains_k else without_gain + 1
    return _Comparisons(at_1, at_k, without_gain)


def _loss(at_1: Change, at_k: Change, now: RoundEvidence, then: RoundEvidence, below_from: int | None) -> str | None:
    """Return a significant loss in words; None without one."""
    if at_1.is_loss:
        return f"pass@1 fell: {at_1}"
    if not at_k.is_loss:
        return None
    risen = compare(now, then, 1)
    if risen.interval.value > 0:
        return f"collapse: {at_k}, while {risen}; below it from pass@{below_from} on"
    return f"pass@{at_k.k} fell: {at_k}"


def _best(history: Sequence[RoundEvidence]) -> RoundEvidence:
    kept = [past for past in history if not past.rolled_back]
    return max(kept, key=lambda past: (_mean_rate(past), -past.round))


def _small_falls(at_1: Change, at_k: Change, loss: str | None, below_from: int | None) -> list[str]:
    """Return warnings of falls that are no loss."""
    if loss is not None:
        return []
    found = []
    if at_1.interval.high < 0:
        found.append(f"lower, but tolerated, or by unknown verdicts, or on fewer than {CHANGED} problems: {at_1}")
    if at_k.k > 1 and below_from is not None and at_k.interval.value < 0:
        found.append(f"lower, but not beyond doubt: {at_k}; below it from pass@{below_from} on")
    return found


def _warnings(gate: Gate, now: RoundEvidence, earlier: Sequence[RoundEvidence], reference: RoundEvidence) -> list[str]:
    found = []
    for name in ("unknown", "truncated"):
        interval = _share_change(now, reference, name)
        if interval is not None:
            found.append(f"{name} samples are up: {interval} of all, against round {reference.round}")
    signs = now.signs
    if gate.saturation is not None and signs.saturated is not None and signs.saturated > gate.saturation:
        found.append(
            f"saturation: all samples right, or all wrong, at {signs.saturated:.0%} of the train problems, above"
            f" {gate.saturation:.0%}: they teach nothing about which trace is better"
        )
    if gate.diversity is not None:
        found += _less_diverse(gate.diversity, signs, earlier)
    if gate.kl is not None and signs.kl is not None and signs.kl > gate.kl:
        found.append(f"KL: {signs.kl:.3f} nats a token from round 0, above {gate.kl}")
    return found


def _less_diverse(bound: float, signs: Signs, earlier: Sequence[RoundEvidence]) -> list[str]:
    found = []
    for name, value in signs.diversity.items():
        first = next((past for past in earlier if name in past.signs.diversity), None)
        if first is not None and value < bound * (then := first.signs.diversity[name]):
            found.append(
                f"diversity: {name} is {value:.3f}, below {bound:.0%} of the {then:.3f} of round {first.round}"
            )
    return found


def _share_change(now: RoundEvidence, then: RoundEvidence, name: Literal["unknown", "truncated"]) -> Interval | None:
    """Return by how much a share of samples rose; None where it did not significantly."""

    def share(outcome: Outcome) -> float:
        return (outcome.unknown if name == "unknown" else outcome.truncated) / outcome.n

    ids = sorted(now.outcomes.keys() & then.outcomes.keys())
    changes = [share(now.outcomes[i]) - share(then.outcomes[i]) for i in ids]
    return bootstrap(changes) if _is_evidence(changes, lambda found: found.low > 0) else None


def _is_evidence(changes: Sequence[float], is_beyond: Callable[[Interval], bool]) -> bool:
    """Return whether at least `CHANGED` problems changed, and the interval of their mean meets the condition."""
    return sum(change != 0 for change in changes) >= CHANGED and is_beyond(bootstrap(changes))


def _at_k(outcome: Outcome, k: int, more: int = 0) -> float:
    """Return a problem's pass@k, with `more` further samples counted as correct (none if it is negative)."""
    return pass_at_k(outcome.correct + max(more, 0), outcome.n, k)


def _mean_rate(past: RoundEvidence) -> Fraction:
    return summed_pass_at_k([(outcome.correct, outcome.n) for outcome in past.outcomes.values()], 1) / len(
        past.outcomes
    )


def _largest_k(gate: Gate, history: Sequence[RoundEvidence]) -> int:
    n = min(outcome.n for past in history for outcome in past.outcomes.values())
    return n if gate.k is None else min(gate.k, n)
