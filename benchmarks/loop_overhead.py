"""What the loop itself costs: time outside the model, as a share of a run and as it grows with the problems.

    python benchmarks/loop_overhead.py --run runs/quickstart     # the share, from a finished run
    python benchmarks/loop_overhead.py --quickstart              # the same, from a quickstart that it runs first
    python benchmarks/loop_overhead.py --problems 1000            # the growth, 1,000 against 10,000 problems

The growth is measured with a sampler that answers at once and a trainer that copies its start, so that all the
time is the loop's: planning, verification, the ledger, selection, building the training set, evaluation.

Imports star_rft.build, star_rft.loop, star_rft.models, star_rft.training: the loop that it measures without a model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from figures import Figure, add_json_option, write_json

import star_rft
from star_rft import Completion, Decoding, Request
from star_rft.build import open_run
from star_rft.loop import run
from star_rft.models.spec import ModelSpec
from star_rft.training.options import TrainingOptions
from star_rft.training.schedule import RoundTraining, SupervisedTraining

MODEL_STAGES = ("sample", "train", "evaluate")


class Canned:
    """Answers every request at once: right, wrong, or right in other words, by its seed."""

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        for request in requests:
            first = request.seed % 7
            text = f" There are {first} + {7 - first} = 7 of them, so 7 + 1 = 8 in all.\n#### {8 - request.seed % 2}"
            yield Completion(request, text, tuple(range(40)), "stop", -1.0)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        return 1

    def close(self) -> None:
        return None


def canned_fit(examples: Sequence[Any], options: TrainingOptions, *, model: ModelSpec, out_dir: Path, **_: Any) -> None:
    shutil.copytree(model.path, out_dir)


def outside_the_model(problems: int, folder: Path) -> dict[str, float]:
    """Run one round over `problems` problems with a model that costs nothing; return seconds."""
    rows = [
        {"question": f"How many are there in the box number {i} of {i * 7919}?", "answer": "8"} for i in range(problems)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dev.jsonl").write_text('{"question": "And how many in the last one?", "answer": "8"}\n')
    raw = {
        "name": "overhead",
        "rounds": 1,
        "run_dir": str(folder / "run"),
        "data": {"train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl")},
        "sample": {"n": 8, "unit": 2048},
    }
    began = perf_counter()
    with open_run(star_rft.load_config(raw)) as stages:
        opened = perf_counter()
        stages.context.engine.make = lambda model: Canned()
        supervised = RoundTraining(SupervisedTraining(canned_fit, TrainingOptions(lr=1.0), "last"), None)
        training = replace(stages.training, round_training=supervised)
        list(run(replace(stages, training=training), rounds=1))
    return {"open": opened - began, "round": perf_counter() - opened, "all": perf_counter() - began}


def share_of(folder: Path) -> dict[str, Any]:
    """Add up a finished run's seconds by stage."""
    rounds = [json.loads(path.read_text())["seconds"] for path in sorted(folder.glob("rounds/*/metrics.json"))]
    totals: dict[str, float] = {}
    for found in rounds:
        for stage, seconds in found.items():
            totals[stage] = totals.get(stage, 0.0) + seconds
    verify = totals.get("verify", 0.0) / max(totals.get("sample", 0.0), 1e-9)
    return {
        "seconds": totals,
        "wall": sum(totals.values()),
        "outside_share": outside_share(totals),
        "verify_over_sample": verify,
    }


def outside_share(seconds: dict[str, float]) -> float:
    return sum(value for stage, value in seconds.items() if stage not in MODEL_STAGES) / sum(seconds.values())


def quickstart(overrides: Sequence[str]) -> dict[str, Any]:
    """Run the quickstart as a user does; look at it as at any other run, and at the time of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "star_rft.cli", "run", "quickstart", f"run_dir={folder}/run", *overrides]
        began = perf_counter()
        subprocess.run(command, check=True, stdout=sys.stderr)
        process = perf_counter() - began
        found = share_of(Path(folder) / "run")
    by_model = sum(found["seconds"].get(stage, 0.0) for stage in MODEL_STAGES)
    return {**found, "process_seconds": process, "process_share": 1 - by_model / process}


def show_share(found: dict[str, Any]) -> None:
    for stage, seconds in found["seconds"].items():
        print(f"{stage:10} {seconds:8.1f} s")
    print(f"outside sampling, training and evaluation: {found['outside_share']:.1%} of {found['wall']:.0f} s")
    if "process_share" in found:
        print(f"the same of the process, from its start to its end: {found['process_share']:.1%}")
    print(f"verification adds {found['verify_over_sample']:.1%} to the wall time of sampling")


def growth(problems: int, repeats: int) -> dict[int, list[float]]:
    """Return the seconds outside the model of each repeat, for `problems` problems and for ten times as many."""
    seconds: dict[int, list[float]] = {problems: [], 10 * problems: []}
    for _ in range(repeats):
        for count, values in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                values.append(outside_the_model(count, Path(folder))["all"])
    return seconds


def show_growth(seconds: dict[int, list[float]]) -> None:
    small, large = (median(values) for values in seconds.values())
    for problems, values in seconds.items():
        print(f"{problems:7,} problems x 8: median {median(values):6.2f} s of {[f'{v:.2f}' for v in values]}")
    print(f"10x the problems take {large / small:.1f}x the time outside the model")


def figures(share: dict[str, Any] | None, seconds: dict[int, list[float]]) -> list[Figure]:
    found = []
    if share is not None:
        whole = f"of a run of {share['wall']:.0f} s"
        outside, added = 100 * share["outside_share"], 100 * share["verify_over_sample"]
        found.append(Figure(f"outside sampling, training and evaluation, {whole}", "%", "neither", [outside]))
        found.append(Figure("what verification adds to the time of sampling", "%", "neither", [added]))
        if "process_share" in share:
            what = f"the first, of the process of {share['process_seconds']:.0f} s: start, imports and report included"
            found.insert(1, Figure(what, "%", "neither", [100 * share["process_share"]]))
    for problems, values in seconds.items():
        found.append(Figure(f"one round outside the model, {problems:,} problems x 8", "s", "neither", values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run folder")
    parser.add_argument("--problems", type=int, help="compare this many problems with ten times as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quickstart", nargs="*", metavar="KEY=VALUE", help="run the quickstart, changed so, and look")
    add_json_option(parser)
    arguments = parser.parse_args()
    share, seconds = None, {}
    if arguments.run:
        share = share_of(arguments.run)
    if arguments.quickstart is not None:
        share = quickstart(arguments.quickstart)
    if arguments.problems:
        seconds = growth(arguments.problems, arguments.repeats)
    if write_json(arguments.json, figures(share, seconds), packages=["torch", "pyarrow", "duckdb"], share=share):
        return
    if share is not None:
        show_share(share)
    if seconds:
        show_growth(seconds)


if __name__ == "__main__":
    main()
