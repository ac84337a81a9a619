"""Peak memory of trainings, measured, against what star-rft reckons before they start.

    python benchmarks/train_memory.py --model tiny
    python benchmarks/train_memory.py --model smollm2 --only 64 1024

Two steps of one micro-batch each, on a CPU, in a process of its own that has loaded the libraries before: measured is
how much its resident memory grows at the most (`ru_maxrss`), estimated what `star_rft.training.memory` says.

Imports star_rft.models, star_rft.training, star_rft.types: the training and the estimate that it measures.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

# (sequences, tokens of each, of which scored, options)
TRAININGS: list[tuple[int, int, int, dict[str, Any]]] = [
    (1, 64, 32, {}),
    (8, 128, 64, {}),
    (8, 128, 128, {}),
    (16, 128, 64, {}),
    (8, 128, 64, {"gradient_checkpointing": True}),
    (8, 128, 64, {"precision": "bfloat16"}),
    (1, 64, 32, {"lora": True}),
    (8, 128, 64, {"lora": True}),
]
# tiny is so small that only many tokens stand out of the libraries' own noise.
TINY = 8
MIB = 2**20


def measure(model: str, rows: int, length: int, scored: int, options: dict[str, Any]) -> None:
    """Print bytes estimated and measured, as JSON; runs in a process of its own."""
    import psutil
    import torch

    import star_rft.training.trainer  # noqa: F401  # loads TRL, transformers and peft
    from star_rft.models.spec import ModelSpec
    from star_rft.training.memory import estimate, shape_of
    from star_rft.training.options import LoraSpec, TrainingOptions
    from star_rft.training.sft import fit
    from star_rft.types import Example

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    draw = random.Random(0)
    examples = [
        Example(tuple(draw.choices(range(3, 700), k=length - scored)), tuple(draw.choices(range(3, 700), k=scored)))
        for _ in range(rows)
    ]
    settings: dict[str, Any] = {"gradient_checkpointing": False, "precision": "float32", **options}
    settings["lora"] = LoraSpec() if options.get("lora") else None
    shape = shape_of(model)
    assert shape is not None
    need = estimate(
        shape, tokens=rows * length, scored=rows * scored, lora=settings["lora"],
        gradient_checkpointing=settings["gradient_checkpointing"], is_bf16=settings["precision"] == "bfloat16",
        on_gpu=False,
    )  # fmt: skip
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        fit(
            examples, TrainingOptions(lr=1e-5, max_steps=2, batch_size=rows, micro_batch_size=rows, **settings),
            model=ModelSpec(model, device="cpu"), out_dir=Path(folder) / "out", work_dir=Path(folder) / "work",
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"estimated": need.total, "measured": peak, "libraries": before}))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="tiny", help="tiny, smollm2 or a folder")
    options.add_argument(
        "--only", type=int, nargs="*", help="only trainings with these numbers of tokens a micro-batch"
    )
    options.add_argument("--json", action="store_true")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.measure is not None:
        measure(asked.model, *json.loads(asked.measure))
        return
    from star_rft.models import resolve

    with tempfile.TemporaryDirectory() as temporary:
        model = str(resolve(asked.model, into=Path(temporary) / "model"))
        found = []
        for rows, length, scored, settings in TRAININGS:
            sequences = rows * (TINY if asked.model == "tiny" else 1)
            if asked.only and sequences * length not in asked.only:
                continue
            case = json.dumps([sequences, length, scored, settings])
            command = [sys.executable, __file__, "--model", model, "--measure", case]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            name = f"{sequences} x {length} tokens, {scored} scored{''.join(f', {key}' for key in settings)}"
            found.append({"training": name, **json.loads(done.stdout.splitlines()[-1])})
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{asked.model}; {platform.machine()}; MiB, besides {found[0]['libraries'] / MIB:.0f} for the libraries")
    for row in found:
        ratio = row["estimated"] / row["measured"]
        print(
            f"{row['training']:58} measured {row['measured'] / MIB:6.0f}  estimated {row['estimated'] / MIB:6.0f}  "
            f"{100 * (ratio - 1):+.0f}%"
        )


if __name__ == "__main__":
    main()
