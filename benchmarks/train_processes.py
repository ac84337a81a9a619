"""Tokens a second of a training in one process and in two, and what starting processes costs.

    python benchmarks/train_processes.py --model tiny
    python benchmarks/train_processes.py --model smollm2 --examples 32 --repeats 2

The same examples, batches and steps each time, on a CPU. `speed` is that of the steps alone, as fit.json has it;
`besides` is what the call took on top: loading and writing, and where processes are launched, starting them and their
libraries. In this process the libraries are loaded before. Repeats are interleaved, because the machine may be busy.

Imports star_rft.models, star_rft.training: the launched training that it measures.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
import transformers
from train import texts

import star_rft.training.trainer  # noqa: F401  # loads TRL, so that no way pays for it alone
from star_rft.models import ModelSpec, load_tokenizer, resolve
from star_rft.training.dataset import example_from_text
from star_rft.training.distributed.launch import CONFIGS, Launch, fit_launched
from star_rft.training.options import FitReport, TrainingOptions
from star_rft.training.sft import fit


def threads(count: int) -> None:
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # which launched processes read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, smollm2, a folder or a hub name")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    ways: dict[str, tuple[int, Callable[..., FitReport]]] = {
        "1 process, 1 thread": (1, fit),
        "1 process, 2 threads": (2, fit),
        "2 processes, 1 thread each, ddp": (1, partial(fit_launched, launch=Launch(2, CONFIGS["ddp"]))),
        "2 processes, 1 thread each, fsdp2": (1, partial(fit_launched, launch=Launch(2, CONFIGS["fsdp2"]))),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    besides: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as temporary:
        model = resolve(asked.model, into=Path(temporary) / "model")
        tokenizer = load_tokenizer(model)
        rows = texts(asked.model, tokenizer, asked.examples)
        examples = [example_from_text(tokenizer, row["prompt"], row["completion"]) for row in rows]
        options = TrainingOptions(lr=1e-4, batch_size=asked.batch_size)
        spec = ModelSpec(model, device="cpu")
        for repeat in range(asked.repeats):
            for name, (count, way) in ways.items():
                threads(count)
                folder = Path(temporary) / f"{repeat}-{name}"
                started = perf_counter()
                report = way(examples, options, model=spec, out_dir=folder / "out", work_dir=folder / "work")
                besides[name].append(perf_counter() - started - report.seconds)
                speeds[name].append(report.tokens / report.seconds)
    print(
        f"{asked.model}: {asked.examples} examples, {report.tokens} tokens, {report.steps} steps, "
        f"{asked.repeats} interleaved repeats; {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    first = next(iter(speeds.values()))
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
        print(
            f"{name:34} {statistics.median(values):7.0f} tokens/s ({min(values):.0f} to {max(values):.0f}), "
            f"{ratio:.2f}x; besides {statistics.median(besides[name]):.1f} s"
        )


if __name__ == "__main__":
    main()
