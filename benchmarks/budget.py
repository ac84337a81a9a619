"""What a budget of samples brings when it goes where correct traces are, against as many samples for every problem.

    python benchmarks/budget.py                            # simulated problems, seeds 0 1 2
    python benchmarks/budget.py --record RUN               # sample the quickstart's base deeply, once (minutes)
    python benchmarks/budget.py --replay RUN               # any run folder: attempt i is the i-th recorded sample
    python benchmarks/budget.py --plan 1000000             # time and memory of one plan for this many problems
    python benchmarks/budget.py --run "rounds=3 sample.n=8" \\
        --run "rounds=3 sample.n=32 budget.plan=adaptive budget.tokens=120000"   # the quickstart, for real, once each

Counted are distinct correct traces, at most `--cap` a problem; coverage is the share of problems with one. In every
comparison each plan is asked between waves as the loop asks it, and sees the same samples: attempt i of a problem is
the same one whichever plan draws it. Every plan has the budget that fixed k spends; DART's plans are the best of
several targets. "tokens for as much" is the smallest budget, in twentieths of that, with which a plan has no fewer
correct traces than fixed k and no lower coverage. Plans other than fixed k may draw 4k samples of a problem.

The simulated pass rates are mixtures of Betas whose means are the shares of correct traces that RFT published on
GSM8K's train questions (2308.01825, k=100: 7B 53.3%, 33B 88.7%), a weak base and a set with unsolvable problems. The
distinct traces of a problem are a Pitman-Yor process. For "equations" its discount is U(0, 0.65), its concentration 0:
so distinct equation lists grow as RFT's do, which the last table shows. For "texts", where nearly every correct trace
is distinct, the discount is 0 and the concentration log-normal around 10. "paths" are no such process: 1 to 40 paths of
Zipf-distributed probability, to see how much the planner's own assumption carries.

The oracle knows each problem's pass rate and process (not what it will draw), draws one sample at a time wherever the
next correct trace is likeliest for its tokens, and tries every problem without one as often as fixed k: about the least
that as many correct traces can cost.

Imports star_rft.frontier: the budgets that it measures.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from budget_worlds import MAX_TOKENS, PASS_RATES, WORLDS, Attempts, Ints, Truth, simulated
from figures import Figure, add_json_option, write_json

import star_rft
from star_rft.frontier.budget import Adaptive, Budget, FixedK, Prop2Diff, Uniform
from star_rft.frontier.counts import ProblemCounts

TWENTIETHS = range(4, 31)
TARGETS = {Uniform: (4, 8, 16, 32), Prop2Diff: (8, 16, 32, 64)}


@dataclass(frozen=True, slots=True)
class Outcome:
    selected: int
    coverage: float
    tokens: int
    waves: int

    def is_as_good_as(self, other: Outcome) -> bool:
        return self.selected >= other.selected and self.coverage >= other.coverage


def play(plan: Budget, attempts: Attempts, *, cap: int, tokens: int | None, max_tokens: int) -> Outcome:
    """Ask, draw, ask again, as a round does."""
    samples_P = np.zeros(len(attempts.tokens_P_A), dtype=np.int64)
    waves = 0
    while True:
        seen = _seen(attempts, samples_P)
        spent = int(seen.tokens_P.sum())
        left = None if tokens is None else tokens - spent
        more_P = plan.allot(seen, tokens_left=left, max_tokens=max_tokens)
        if not more_P.any():
            break
        samples_P = samples_P + more_P
        waves += 1
    assert tokens is None or spent <= tokens
    selected_P = np.minimum(seen.distinct_P, cap)
    return Outcome(int(selected_P.sum()), float((selected_P > 0).mean()), spent, waves)


def _seen(attempts: Attempts, samples_P: Ints) -> ProblemCounts:
    correct_P = attempts.at(attempts.correct_P_A, samples_P)
    none_P = np.zeros(samples_P.size)
    return ProblemCounts(
        samples_P=samples_P,
        correct_P=correct_P,
        distinct_P=attempts.at(attempts.distinct_P_A, samples_P),
        distinct_of_P=correct_P,
        tokens_P=attempts.at(attempts.tokens_P_A, samples_P),
        past_samples_P=none_P,
        past_correct_P=none_P,
        is_quarantined_P=none_P.astype(bool),
        order_P=np.random.default_rng(0).permutation(samples_P.size),
    )


def oracle_share(attempts: Attempts, truth: Truth, base: Outcome, *, k: int, cap: int) -> float:
    """Return the share of fixed k's tokens with which the oracle has as many correct traces."""
    length_P = attempts.tokens_P_A[:, -1] / (attempts.tokens_P_A.shape[1] - 1)
    last = min(4 * k, attempts.tokens_P_A.shape[1] - 1)

    def drawn(price: float) -> Ints:
        samples_P = np.zeros(len(length_P), dtype=np.int64)
        while True:
            c_P, d_P = attempts.at(attempts.correct_P_A, samples_P), attempts.at(attempts.distinct_P_A, samples_P)
            new_P = (truth.theta_P + truth.sigma_P * d_P) / np.maximum(truth.theta_P + c_P, 1e-9)
            value_P = truth.rate_P * np.where(c_P == 0, 1.0, new_P) / length_P
            is_tried_P = (d_P == 0) & (samples_P < min(k, last))
            goes_on_P = ((value_P >= price) & (d_P < cap) & (samples_P < last)) | is_tried_P
            if not goes_on_P.any():
                return samples_P
            samples_P += goes_on_P

    low, high = 1e-8, 1.0
    for _ in range(20):
        price = (low * high) ** 0.5
        correct_traces = int(np.minimum(attempts.at(attempts.distinct_P_A, drawn(price)), cap).sum())
        low, high = (price, high) if correct_traces >= base.selected else (low, price)
    return float(attempts.at(attempts.tokens_P_A, drawn(low)).sum() / base.tokens)


# Comparisons


def compare(attempts: Attempts, *, k: int, cap: int, max_tokens: int) -> tuple[dict[str, tuple[float, ...]], Outcome]:
    """Return, for each plan, the figures that `HEADINGS` names, and what fixed k came to."""
    most = min(4 * k, attempts.tokens_P_A.shape[1] - 1)

    def with_tokens(plan: Budget, tokens: int | None) -> Outcome:
        return play(plan, attempts, cap=cap, tokens=tokens, max_tokens=max_tokens)

    base = with_tokens(FixedK(k), None)
    rivals = {
        f"DART {kind.__name__.lower()}": [kind(target, most) for target in TARGETS[kind]]
        for kind in (Uniform, Prop2Diff)
    }
    plans: dict[str, list[Budget]] = {"adaptive": [Adaptive(cap, most, worth=0.0)], **rivals}  # type: ignore[dict-item]
    rows = {f"fixed k={k}": _figures(base, base, 1.0)}
    for name, versions in plans.items():
        best = max((with_tokens(plan, base.tokens) for plan in versions), key=lambda outcome: outcome.selected)
        shares = [_for_as_much(lambda tokens, plan=plan: with_tokens(plan, tokens), base) for plan in versions]  # type: ignore[misc]
        rows[name] = _figures(best, base, min(shares))
    free = with_tokens(Adaptive(cap, most), None)
    rows["adaptive, no budget"] = _figures(free, base, float("nan"))
    return rows, base


HEADINGS = ("selected", "coverage", "tokens", "per trace", "waves", "for as much")


def _figures(outcome: Outcome, base: Outcome, for_as_much: float) -> tuple[float, ...]:
    return (
        outcome.selected / base.selected,
        outcome.coverage,
        outcome.tokens / base.tokens,
        outcome.tokens / outcome.selected,
        outcome.waves,
        for_as_much,
    )


def _for_as_much(with_tokens: Callable[[int], Outcome], base: Outcome) -> float:
    """Return the smallest budget that is as good as fixed k, by bisection; infinite where the largest is not."""
    low, high = TWENTIETHS.start, TWENTIETHS.stop
    while low < high:
        middle = (low + high) // 2
        if with_tokens(middle * base.tokens // 20).is_as_good_as(base):
            high = middle
        else:
            low = middle + 1
    return low / 20 if low < TWENTIETHS.stop else float("inf")


def show(title: str, rows: dict[str, tuple[float, ...]]) -> None:
    print(f"\n{title}\n{'':22}" + "".join(f"{heading:>14}" for heading in HEADINGS))
    for name, row in rows.items():
        formats = ("{:.3f}", "{:.4f}", "{:.2f}", "{:.0f}", "{:.1f}", "{:.2f}")
        cells = [form.format(value) for form, value in zip(formats, row, strict=True)]
        print(f"{name:22}" + "".join(f"{cell.replace('nan', '-').replace('inf', '> 1.5'):>14}" for cell in cells))


def simulations(seeds: Sequence[int], *, problems: int, cap: int) -> list[Figure]:
    from scipy.special import gammaln

    figures = []
    for rates, diversity in WORLDS:
        worlds = [simulated(rates, diversity, problems=problems, seed=seed) for seed in seeds]
        for k in (16, 64):
            found = [compare(attempts, k=k, cap=cap, max_tokens=MAX_TOKENS) for attempts, _ in worlds]
            figures.append(tokens_a_trace(f"{rates}, {diversity}, k={k}", [rows for rows, _ in found], k=k))
            rows = {
                name: tuple(float(np.mean([rows[name][i] for rows, _ in found])) for i in range(len(HEADINGS)))
                for name in found[0][0]
            }
            shares = [
                oracle_share(attempts, truth, base, k=k, cap=cap)
                for (attempts, truth), (_, base) in zip(worlds, found, strict=True)
                if truth is not None
            ]
            if shares:
                rows["oracle"] = (1.0, *[float("nan")] * 4, float(np.mean(shares)))
            show(f"{rates}, {diversity}: {problems:,} problems, mean of seeds {list(seeds)}", rows)
    published = {1: 1.17, 3: 1.44, 6: 1.74, 12: 2.20, 25: 2.93, 50: 3.94, 100: 5.25}
    attempts, truth = simulated("7B", "equations", problems=problems, seed=seeds[0])
    assert truth is not None
    print(
        "\ndistinct equation lists a question after k samples, the reference solution among them: RFT 7B and this"
        " simulation"
    )
    for k, distinct in published.items():
        # The reference solution is one more; among n of them Gamma(n + sigma) / (Gamma(n) Gamma(1 + sigma)) are
        # distinct.
        n_P = attempts.correct_P_A[:, k] + 1.0
        simulated_P = np.exp(gammaln(n_P + truth.sigma_P) - gammaln(n_P) - gammaln(1 + truth.sigma_P))
        print(f"{k:>4} {distinct:6.2f} {simulated_P.mean():6.2f}")
    return figures


def tokens_a_trace(world: str, found: Sequence[dict[str, tuple[float, ...]]], *, k: int) -> Figure:
    """Return what a correct trace costs with as many of them, and as much coverage, as fixed k has; a value a seed."""
    each, share, fixed = HEADINGS.index("per trace"), HEADINGS.index("for as much"), f"fixed k={k}"
    adaptive = [rows[fixed][each] * rows["adaptive"][share] for rows in found]
    dart = [rows[fixed][each] * min(rows[f"DART {kind}"][share] for kind in ("uniform", "prop2diff")) for rows in found]
    baselines = {fixed: [rows[fixed][each] for rows in found], "DART, the better of its plans": dart}
    return Figure(f"tokens a distinct correct trace, simulated: {world}", "tokens", "less", adaptive, baselines)


# Recorded samples


def record(folder: Path, *, problems: int, n: int) -> None:
    """Sample the quickstart's base `n` times on its own kind of problems: round 1 of a run that trains for one step."""
    few = {"data.dev.options.n": 20, "eval.n": 8, "rounds": 1, "train.max_steps": 1}
    many = {"run_dir": str(folder), "data.train.options.n": problems, "sample.n": n}
    for report in star_rft.run("quickstart", few | many):
        print(f"round {report.round}: {report.samples:,} samples")


def recorded(folder: Path, *, round_index: int, key: str) -> tuple[Attempts, int]:
    """Return the attempts of a run's round, as many as every problem has, and the token limit they were drawn with."""
    run = star_rft.open_run(folder)
    of_round = f"from traces where split = 'train' and not hinted and round = {round_index}"
    depth, most = run.sql(
        f"select min(n), max(n) from (select count(*) as n {of_round} group by problem_id)"
    ).fetchall()[0]
    if not depth:
        raise SystemExit(f"{folder}: round {round_index} has no samples")
    if depth < most:
        print(f"problems have {depth} to {most} samples: the first {depth} of each are replayed")
    columns = run.sql(
        f"select problem_id, row_number() over (partition by problem_id order by sample_index, sample_id) as place,"
        f" status = 'correct' and finish_reason = 'stop' as is_correct, {key} as key, tokens"
        f" {of_round} qualify place <= {depth} order by problem_id, place"
    ).fetchnumpy()
    limit = run.sql(
        f"select max(max_tokens) from decodings where decode_id in (select decode_id {of_round})"
    ).fetchall()[0][0]
    is_correct = np.asarray(columns["is_correct"], dtype=bool)
    pairs = zip(columns["problem_id"], columns["key"], is_correct, strict=True)
    seen: set[tuple[str, str]] = set()
    is_new = np.array([good and not ((pid, key) in seen or seen.add((pid, key))) for pid, key, good in pairs])  # type: ignore[func-returns-value]
    shape = (-1, depth)
    tokens_P_A = np.asarray(columns["tokens"], dtype=np.int64).reshape(shape)
    return Attempts.of(is_correct.reshape(shape), is_new.reshape(shape), tokens_P_A), int(limit)


def replay(folder: Path, *, round_index: int, cap: int, ks: Sequence[int]) -> None:
    for key in ("equation_key", "text_key"):
        attempts, max_tokens = recorded(folder, round_index=round_index, key=key)
        problems, depth = len(attempts.tokens_P_A), attempts.tokens_P_A.shape[1] - 1
        for k in (k for k in ks if k <= depth):
            rows, _ = compare(attempts, k=k, cap=cap, max_tokens=max_tokens)
            show(f"{folder}, distinct by {key}: {problems:,} problems x {depth} samples of round {round_index}", rows)


# The planner's own cost


def plan(problems: int) -> None:
    """Ask for the waves of a first and of a later round; memory is that of the whole process."""
    rng = np.random.default_rng(0)
    rate_P = PASS_RATES["7B"](rng, problems)
    adaptive = Adaptive(target=4, most=256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for title, mean_samples, past in (
        ("probe", 0, 0.0),
        ("middle of round 1", 16, 0.0),
        ("middle of round 3", 16, 1.5),
    ):
        samples_P = (
            np.maximum(4, rng.geometric(1 / mean_samples, problems)) if mean_samples else np.zeros(problems, int)
        )
        samples_P = np.minimum(samples_P, 256)
        correct_P = rng.binomial(samples_P, rate_P)
        distinct_P = np.minimum(correct_P, 1 + rng.binomial(np.maximum(0, correct_P - 1), 0.2))
        past_P = past * rng.choice([4.0, 8.0, 12.0, 30.0], problems)
        seen = ProblemCounts(
            samples_P=samples_P,
            correct_P=correct_P,
            distinct_P=distinct_P,
            distinct_of_P=correct_P,
            tokens_P=samples_P * rng.integers(80, 200, problems),
            past_samples_P=past_P,
            past_correct_P=past_P * np.round(rate_P, 1),
            is_quarantined_P=np.zeros(problems, dtype=bool),
            order_P=rng.permutation(problems),
        )
        for tokens_left in (None, 400 * problems):
            began = time.perf_counter()
            more_P = adaptive.allot(seen, tokens_left=tokens_left, max_tokens=MAX_TOKENS)
            seconds = time.perf_counter() - began
            limit = "no budget" if tokens_left is None else f"{tokens_left:,} tokens left"
            print(f"{problems:,} problems, {title}, {limit}: {more_P.sum():,} samples in {seconds:.2f} s")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {after:,.0f} MiB, of which {before:,.0f} before the first answer's input was made")


# The quickstart, for real


def run(overrides: Sequence[str]) -> None:
    """Run the quickstart once for each list of overrides and print what each round's samples came to."""
    for changes in overrides:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\nquickstart {changes}\nround     tokens  samples  selected  coverage  tokens/trace  pass@1")
            for report in star_rft.run("quickstart", [f"run_dir={folder}/run", *changes.split()]):
                if report.round > 0:
                    each = report.tokens / max(1, report.selected)
                    print(
                        f"{report.round:>5} {report.tokens:>10,} {report.samples:>8,} {report.selected:>10,}"
                        f" {report.coverage or 0.0:>9.4f} {each:>16.0f} {report.pass_at_1 or float('nan'):>7.3f}"
                    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cap", type=int, default=4)
    parser.add_argument("--k", type=int, nargs="+", default=[8, 16, 48])
    parser.add_argument("--record", type=Path, metavar="RUN")
    parser.add_argument("--replay", type=Path, metavar="RUN")
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--n", type=int, default=192)
    parser.add_argument("--plan", type=int, metavar="PROMPTS")
    parser.add_argument("--run", action="append", metavar="OVERRIDES")
    add_json_option(parser)
    args = parser.parse_args(arguments)
    if args.json and (args.record or args.replay or args.plan or args.run):
        parser.error("--json goes with the simulations")
    if args.record:
        record(args.record, problems=args.problems, n=args.n)
    elif args.replay:
        replay(args.replay, round_index=args.round, cap=args.cap, ks=args.k)
    elif args.plan:
        plan(args.plan)
    elif args.run:
        run(args.run)
    else:
        figures = simulations(args.seeds, problems=args.problems, cap=args.cap)
        write_json(args.json, figures, packages=["numpy"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
