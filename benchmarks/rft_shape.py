"""RFT's ablations on one ledger: distinct traces and accuracy as k grows, and what each part of it is worth.

    python benchmarks/rft_shape.py --data DIR                 # smollm2_rft, sized for two CPU cores
    python benchmarks/rft_shape.py --data DIR --only 'k=8' --seeds 0 1 2
    python benchmarks/rft_shape.py --run runs/NAME --ks 1 4             # any run that has finished its first round

DIR holds `gsm8k/train.jsonl`, `mawps/` and `svamp/test.jsonl`. One run samples once; every arm that is not that run
itself is a fork of it (`star-rft fork`), which selects and trains otherwise from the same model on the same samples.
`as long` trains on fewer for as many steps as the run took; `random` on as many finished samples, right or wrong.
`adaptive` draws its own, once, with an adaptive budget of the tokens that the run took and at most four times as many
samples a question, and keeps at most four distinct traces a question; `at most 4` keeps as many of the run's.

`distinct` is the distinct correct traces a question, by the run's own dedup key, `covered` the share of questions with
one, and `tokens` what was sampled for them, whatever an arm keeps. `change` is against the model that the loop starts
from, paired by problem. Accuracy is greedy, or of the samples where the run draws nothing greedy. An interval resamples
the problems, the seeds' mean of each; in the last lines a second one the seeds too. The same command goes on where it
was stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

import star_rft

Floats = npt.NDArray[np.float64]
CAP = 4
SHOWN = 0.02  # a difference in accuracy that matters
SPLITS = ("dev", "test")
# The columns of the ledger that tell distinct traces apart, by the option of the rule `dedup`.
KEYS = {"exact": "text_key", "equations": "equation_key", "program": "program_key"}


@dataclass(frozen=True, slots=True)
class Arm:
    """A fork of the source, with these changes of the config.

    `k` is how many samples of each question the arm counts. With `draws` the arm samples for itself.
    """

    name: str
    k: int
    changes: Mapping[str, Any]
    draws: bool = False


def arms(ks: Sequence[int], config: star_rft.Config, *, tokens: int, steps: int) -> list[Arm]:
    """Return the arms of a run whose first round sampled `tokens` tokens and trained for `steps` steps."""
    n, rules = config.sample.n, config.select.rules
    capped = {"select.rules": [*rules, {"cap": CAP}]}
    budget = {"budget.plan": "adaptive", "budget.target": CAP, "budget.tokens": tokens, "sample.n": 4 * n}
    fewer = {k: {"select.rules": [{"first_samples": k}, *rules]} for k in sorted(ks) if k < n}
    found = [
        *(Arm(f"k={k}", k, first) for k, first in fewer.items()),
        *(Arm(f"k={k} as long", k, {**first, "train.max_steps": steps}) for k, first in fewer.items()),
        Arm(f"k={n}", n, {}),
        Arm("random", n, {"select.rules": [*rules, {"control": "finished"}]}),
        Arm("no dedup", n, {"select.rules": [rule for rule in rules if "dedup" not in rule]}),
        Arm("weights 1/|Y+|", n, {"train.weighting": "per_problem"}),
        Arm(f"at most {CAP}", n, capped),
        Arm("adaptive", 4 * n, {**capped, **budget}, draws=True),
    ]
    if dedup_key(config) == "equation_key":  # only chains of thought have steps that can be false
        found.append(Arm("true steps only", n, {"select.rules": ["valid_steps", *rules]}))
    return found


def sources(data: Path) -> dict[str, Any]:
    """Return the overrides that name the data of `smollm2_rft`."""
    mawps = [str(data / "mawps" / f"{name}.jsonl") for name in ("addsub", "multiarith", "singleeq")]
    return {
        "warm_start.data.source": str(data / "gsm8k" / "train.jsonl"),
        "data.train.source": mawps,
        "data.dev.source": mawps,
        "data.test.source": str(data / "svamp" / "test.jsonl"),
    }


def dedup_key(config: star_rft.Config) -> str:
    """Return the column that the last rule `dedup` tells distinct traces by; without one, each trace is distinct."""
    options = [rule["dedup"] for rule in config.select.rules if isinstance(rule, Mapping) and "dedup" in rule]
    if not options:
        return "sample_id"
    return KEYS[options[-1]["by"] if isinstance(options[-1], Mapping) else options[-1]]


def finished(run: star_rft.Run) -> star_rft.Run:
    """Run or resume, with a line for each round on standard error."""
    for report in run:
        print(f"{run.folder.name}: round {report.round}, pass@1 {report.pass_at_1}", file=sys.stderr, flush=True)
    return run


def finished_arm(source: star_rft.Run, arm: Arm, seed: int) -> star_rft.Run:
    """Run or resume an arm. Whichever seed trains on the samples, they are those of the source's seed."""
    stem = f"{source.folder.name}-{re.sub('[^a-z0-9]+', '-', arm.name.lower()).strip('-')}"
    if not arm.draws:
        return forked(source, f"{stem}-{seed}", arm.changes, seed=seed)
    first = source.config.seed
    return forked(forked(source, f"{stem}-{first}", arm.changes, seed=first), f"{stem}-{seed}", {}, seed=seed)


def forked(source: star_rft.Run, name: str, changes: Mapping[str, Any], *, seed: int) -> star_rft.Run:
    """Run or resume a fork; what changes nothing is the source itself."""
    file = source.folder / "config.yaml"
    if star_rft.load_config(file, {**changes, "seed": seed}) == star_rft.load_config(file):
        return source
    folder = source.folder.parent / name
    if folder.exists():
        return finished(star_rft.run(folder))
    return finished(star_rft.fork(source, name, {**changes, "rounds": 1, "seed": seed}))


def rates(run: star_rft.Run, round_index: int, split: str) -> Floats:
    """Return each held-out problem's accuracy, in the order of the problems' ids."""
    rows = pq.read_table(run.folder / f"rounds/{round_index:03d}/eval.parquet").to_pylist()
    rows = sorted((row for row in rows if row["split"] == split), key=lambda row: row["problem_id"])
    greedy = [row["greedy_correct"] for row in rows]
    return np.array([row["correct"] / row["n"] if one is None else one for one, row in zip(greedy, rows, strict=True)])


def all_rates(run: star_rft.Run, round_index: int) -> Floats:
    return np.concatenate([rates(run, round_index, split) for split in SPLITS])


def steps_of(run: star_rft.Run) -> int:
    """Return how many steps the supervised training of round 1 took."""
    folders = (run.folder / "rounds/001" / name for name in ("supervised", "checkpoint"))
    fit = next(folder for folder in folders if folder.exists()) / "fit.json"
    return int(json.loads(fit.read_text())["report"]["steps"])


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the first `k` samples of each question hold.

    `distinct` is distinct correct traces a question, `covered` the share of questions with one.
    """

    distinct: float
    covered: float
    tokens: int


def drawn(run: star_rft.Run, k: int) -> Drawn:
    key = dedup_key(run.config)
    query = f"""
        with first as (
            select *, status = 'correct' and finish_reason = 'stop' as is_kept
            from traces where split = 'train' and round = 1 and not hinted and sample_index < $k
        )
        select
            count(distinct (problem_id, {key})) filter (is_kept) / count(distinct problem_id),
            count(distinct problem_id) filter (is_kept) / count(distinct problem_id),
            sum(tokens)
        from first"""
    ((distinct, covered, tokens),) = run.sql(query, k=k).fetchall()
    return Drawn(float(distinct), float(covered), int(tokens))


def over(most_S_P: Floats, other_S_P: Floats) -> str:
    """Say how much better an arm is than another on all held-out problems, and how many would show SHOWN."""
    difference = star_rft.paired(most_S_P.mean(axis=0), other_S_P.mean(axis=0))
    problems = most_S_P.shape[1]
    needed = problems * ((difference.high - difference.low) / 2 / SHOWN) ** 2
    both = star_rft.crossed(most_S_P, other_S_P)
    return (
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] over {problems:,} problems (about"
        f" {needed:,.0f} would show {SHOWN:.2f}), [{both.low:+.3f}, {both.high:+.3f}] over problems and seeds"
    )


def row(source: star_rft.Run, arm: Arm, runs: Sequence[star_rft.Run]) -> dict[str, Any]:
    trained = [next(report.selected for report in run.reports if report.round == 1) for run in runs]
    found: dict[str, Any] = {
        "arm": arm.name,
        "seeds": len(runs),
        **asdict(drawn(runs[0] if arm.draws else source, arm.k)),
        "trained_on": float(np.mean(trained)),
    }
    for split in SPLITS:
        before = rates(source, 0, split)
        if before.size:
            by_seed = [rates(run, 1, split) for run in runs]
            after = np.mean(by_seed, axis=0)
            found[split] = {
                "before": star_rft.bootstrap(before),
                "after": star_rft.bootstrap(after),
                "change": star_rft.paired(after, before),
                "by_seed": [float(values.mean()) for values in by_seed],
            }
    return found


def shown(found: Mapping[str, Any]) -> str:
    text = f"{found['arm']:<16}{found['seeds']:>6}{found['distinct']:>10.2f}{found['covered']:>9.2f}"
    text += f"{found['tokens']:>12,}{found['trained_on']:>12,.0f}"
    for split in SPLITS:
        if split in found:
            after, change = found[split]["after"], found[split]["change"]
            text += f"   {after.value:.3f} [{after.low:.3f}, {after.high:.3f}]"
            text += f"  {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, metavar="DIR", help="the data of smollm2_rft")
    given.add_argument("--run", type=Path, help="a run to fork instead")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are")
    parser.add_argument(
        "--ks",
        type=int,
        nargs="+",
        default=[1, 4],
        help="samples a question of further arms, besides the one with all samples",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--only", nargs="+", metavar="ARM", help="some of the arms, by name")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    asked = parser.parse_args()
    if asked.run:
        source = star_rft.open_run(asked.run)
    else:
        overrides = {**sources(asked.data), "run_dir": str(asked.runs / "smollm2_rft")}
        source = finished(star_rft.run("smollm2_rft", overrides))
    rows: list[dict[str, Any]] = []
    pooled: list[str] = []
    after = {"the start": all_rates(source, 0)[None]}
    config = source.config
    n = config.sample.n
    every = arms(asked.ks, config, tokens=drawn(source, n).tokens, steps=steps_of(source))
    names = [arm.name for arm in every]
    if unknown := [name for name in asked.only or () if name not in names]:
        parser.error(f"--only: there is no arm {unknown[0]!r}; with --ks {asked.ks} there are {', '.join(names)}")
    for arm in every:
        if asked.only and arm.name not in asked.only:
            continue
        runs = [finished_arm(source, arm, seed) for seed in asked.seeds]
        after[arm.name] = np.stack([all_rates(run, 1) for run in runs])
        pooled.append(f"{arm.name}: {', '.join(f'{accuracy:.3f}' for accuracy in after[arm.name].mean(axis=1))}")
        rows.append(row(source, arm, runs))
        if len(rows) == 1:
            columns = "".join(f"   {split + ' accuracy, change':<46}" for split in SPLITS if split in rows[0])
            head = f"{'arm':<16}{'seeds':>6}{'distinct':>10}{'covered':>9}{'tokens':>12}{'trained on':>12}"
            print(f"{head}{columns}".rstrip(), flush=True)
        print(shown(rows[-1]), flush=True)
    print("by seed, on all held-out problems:", *pooled, sep="\n  ")
    most = after.pop(f"k={n}", None)
    if most is not None:
        for name, other in after.items():
            print(f"k={n} over {name}: {over(most, other)}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1, default=asdict) + "\n")


if __name__ == "__main__":
    main()
