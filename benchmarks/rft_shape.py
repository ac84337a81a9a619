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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import star_rft
from star_rft import config as configs
from star_rft.build import settle
from star_rft.cli.app import progress_of
from star_rft.config import Config
from star_rft.evaluation.evaluate import read
from star_rft.experiments.controls import fit_of
from star_rft.experiments.fork import fork
from star_rft.ledger import Ledger
from star_rft.runs.folder import RunFolder
from star_rft.selection.select import dedup_key
from star_rft.statistics import Floats, bootstrap, crossed, paired
from star_rft.types import Split

CAP = 4
SHOWN = 0.02  # a difference in accuracy that matters
SPLITS: tuple[Split, ...] = ("dev", "test")


@dataclass(frozen=True, slots=True)
class Arm:
    """What differs from the source; `k` is how many samples a question count. With `draws` they are the arm's own."""

    name: str
    k: int
    changes: Mapping[str, Any]
    draws: bool = False


def arms(ks: Sequence[int], config: Config, *, tokens: int, steps: int) -> list[Arm]:
    """Return the arms of a run whose first round sampled so many tokens and trained for so many steps."""
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
    if dedup_key(rules) == "equation_key":  # only chains of thought have steps that can be false
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


def finish(config: str | Path, overrides: Mapping[str, Any]) -> RunFolder:
    """Run or resume, with progress on standard error."""
    settled = settle(str(config), overrides)
    with progress_of(False, name=settled.name, rounds=settled.rounds) as progress:
        for _ in star_rft.run(str(config), overrides, progress=progress):
            pass
    return RunFolder(settled.folder)


def finished_arm(source: RunFolder, arm: Arm, seed: int) -> RunFolder:
    """Run or resume an arm. Whichever seed trains on the samples, they are those of the source's seed."""
    stem = f"{source.path.name}-{re.sub('[^a-z0-9]+', '-', arm.name.lower()).strip('-')}"
    if not arm.draws:
        return forked(source, f"{stem}-{seed}", arm.changes, seed=seed)
    own = configs.load(source.config).seed
    return forked(forked(source, f"{stem}-{own}", arm.changes, seed=own), f"{stem}-{seed}", {}, seed=seed)


def forked(source: RunFolder, name: str, changes: Mapping[str, Any], *, seed: int) -> RunFolder:
    """Run or resume a fork; what changes nothing is the source itself."""
    if configs.load(source.config, {**changes, "seed": seed}) == configs.load(source.config):
        return source
    folder = RunFolder(source.path.parent / name)
    if not folder.path.exists():
        about = {"name": name, "run_dir": str(folder.path), "forked_from": str(source.path), "rounds": 1, "seed": seed}
        fork(source, configs.load(source.config, {**changes, **about}))
    return finish(folder.path, {})


def rates(folder: RunFolder, round_index: int, split: Split) -> Floats:
    """Return each held-out problem's accuracy, in the order of the problems."""
    rows = sorted(read(folder.eval(round_index), split), key=lambda row: row["problem_id"])
    greedy = [row["greedy_correct"] for row in rows]
    return np.array([row["correct"] / row["n"] if one is None else one for one, row in zip(greedy, rows, strict=True)])


def everywhere(folder: RunFolder, round_index: int) -> Floats:
    return np.concatenate([rates(folder, round_index, split) for split in SPLITS])


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the first `k` samples of each question came to."""

    distinct: float
    covered: float
    tokens: int


def drawn(run: RunFolder, k: int) -> Drawn:
    key = dedup_key(configs.load(run.config).select.rules)
    query = f"""
        with first as (
            select *, status = 'correct' and finish_reason = 'stop' as is_kept
            from traces where split = 'train' and round = 1 and not hinted and sample_index < ?
        )
        select
            count(distinct (problem_id, {key})) filter (is_kept) / count(distinct problem_id),
            count(distinct problem_id) filter (is_kept) / count(distinct problem_id),
            sum(tokens)
        from first"""
    ((distinct, covered, tokens),) = Ledger(run.path).connect().execute(query, [k]).fetchall()
    return Drawn(float(distinct), float(covered), int(tokens))


def over(most_S_P: Floats, other_S_P: Floats) -> str:
    """Say how much better an arm is than another on all held-out problems, and how many would show SHOWN."""
    difference = paired(most_S_P.mean(axis=0), other_S_P.mean(axis=0))
    problems = most_S_P.shape[1]
    needed = problems * ((difference.high - difference.low) / 2 / SHOWN) ** 2
    both = crossed(most_S_P, other_S_P)
    return (
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] over {problems:,} problems (about"
        f" {needed:,.0f} would show {SHOWN:.2f}), [{both.low:+.3f}, {both.high:+.3f}] over problems and seeds"
    )


def row(source: RunFolder, arm: Arm, runs: Sequence[RunFolder]) -> dict[str, Any]:
    trained = [json.loads(run.metrics(1).read_text())["selected"] for run in runs]
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
                "before": bootstrap(before),
                "after": bootstrap(after),
                "change": paired(after, before),
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
        "--ks", type=int, nargs="+", default=[1, 4], help="arms of so many samples a question, beside all"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    parser.add_argument("--only", nargs="+", metavar="ARM", help="some of the arms, by name")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    asked = parser.parse_args()
    if asked.run:
        source = RunFolder(asked.run)
    else:
        source = finish("smollm2_rft", {**sources(asked.data), "run_dir": str(asked.runs / "smollm2_rft")})
    rows: list[dict[str, Any]] = []
    pooled: list[str] = []
    after = {"the start": everywhere(source, 0)[None]}
    config = configs.load(source.config)
    n = config.sample.n
    every = arms(asked.ks, config, tokens=drawn(source, n).tokens, steps=fit_of(source, 1).steps)
    names = [arm.name for arm in every]
    if unknown := [name for name in asked.only or () if name not in names]:
        parser.error(f"--only: there is no arm {unknown[0]!r}; with --ks {asked.ks} there are {', '.join(names)}")
    for arm in every:
        if asked.only and arm.name not in asked.only:
            continue
        runs = [finished_arm(source, arm, seed) for seed in asked.seeds]
        after[arm.name] = np.stack([everywhere(run, 1) for run in runs])
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
