"""Tokens a second of star-rft's training against TRL's SFTTrainer, on the same examples.

    python benchmarks/train.py --model tiny
    python benchmarks/train.py --model smollm2 --examples 64 --repeats 3

Built-in word problems with their worked solutions; the same batch size, epochs, learning rate and schedule
for all. `TRL, defaults` gets text and whatever SFTConfig sets by itself (bf16, gradient checkpointing, random
batches); `TRL, tuned` is TRL at its best here: float32, no checkpointing, grouped by length. Both get the
whole batch at once, as no accumulation is TRL's default. What is timed is `train()`; loading and saving are
left out for all. Only tokens of examples count, padding does not. Repeats are interleaved, because the
machine may be busy.

Imports star_rft.models, star_rft.training, star_rft.types: the training that it measures.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from figures import Figure, add_json_option, write_json

import star_rft
from star_rft.models import ModelSpec, load_tokenizer, resolve
from star_rft.training.dataset import example_from_text
from star_rft.training.options import TrainingOptions
from star_rft.training.sft import fit
from star_rft.types import Example

LR = 1e-4


def texts(model: str, tokenizer: Any, count: int) -> list[dict[str, str]]:
    rows = []
    for problem in star_rft.load_problems("word_problems", split="train", options={"n": count, "seed": 1}):
        prompt = f"Question: {problem.prompt}\nAnswer:"
        if model != "tiny":
            chat = [{"role": "user", "content": problem.prompt}]
            prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        rows.append({"prompt": prompt, "completion": f" {problem.solution}"})
    return rows


def by_star_rft(
    model: str | Path, examples: Sequence[Example], folder: Path, batch_size: int, **options: Any
) -> tuple[int, float]:
    plain = TrainingOptions(lr=LR, batch_size=batch_size, warmup_ratio=0.0, schedule="linear", **options)
    report = fit(examples, plain, model=ModelSpec(model), out_dir=folder / "out", work_dir=folder / "work")
    return report.tokens, report.seconds


def by_trl(
    model: str | Path, rows: list[dict[str, str]], folder: Path, batch_size: int, **options: Any
) -> tuple[int, float]:
    config = trl.SFTConfig(
        str(folder), per_device_train_batch_size=batch_size, num_train_epochs=1, learning_rate=LR,
        report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        **options,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        str(model), config, train_dataset=Dataset.from_list(rows), processing_class=load_tokenizer(model)
    )
    trainer.remove_callback(transformers.PrinterCallback)
    started = perf_counter()
    trainer.train()
    seconds = perf_counter() - started
    return sum(map(len, trainer.train_dataset["input_ids"])), seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="tiny", help="tiny, smollm2, a folder or a hub name")
    options.add_argument("--examples", type=int, default=1000)
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--threads", type=int, help="default: those of torch; 1 where others compute too")
    options.add_argument("--sweep", action="store_true", help="other micro-batch sizes and bfloat16 too")
    add_json_option(options)
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)

    with tempfile.TemporaryDirectory() as temporary:
        model = resolve(asked.model, into=Path(temporary) / "model")
        tokenizer = load_tokenizer(model)
        rows = texts(asked.model, tokenizer, asked.examples)
        examples = [example_from_text(tokenizer, row["prompt"], row["completion"]) for row in rows]
        size = asked.batch_size
        ways: dict[str, Callable[[Path], tuple[int, float]]] = {
            "TRL, defaults": lambda folder: by_trl(model, rows, folder, size),
            "TRL, tuned": lambda folder: by_trl(
                model, rows, folder, size,
                gradient_checkpointing=None,  # off; newer versions of transformers warn of False
                bf16=False, train_sampling_strategy="group_by_length",
            ),
            "star-rft": lambda folder: by_star_rft(model, examples, folder, size),
        }  # fmt: skip
        if asked.sweep:
            for micro in (4, 8, 16, 32):
                ways[f"star-rft, micro-batches of {micro}"] = lambda folder, micro=micro: by_star_rft(
                    model, examples, folder, size, micro_batch_size=micro
                )
            ways["star-rft, bfloat16"] = lambda folder: by_star_rft(model, examples, folder, size, precision="bfloat16")
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        tokens_of: dict[str, int] = {}
        for repeat in range(asked.repeats):
            for name, way in ways.items():
                folder = Path(temporary) / f"{repeat}-{name}"
                folder.mkdir()
                tokens_of[name], seconds = way(folder)
                speeds[name].append(tokens_of[name] / seconds)
    if len(set(tokens_of.values())) != 1:
        raise SystemExit(f"not the same tokens for all: {tokens_of}")
    baselines = {name: values for name, values in speeds.items() if name.startswith("TRL")}
    what = f"training {asked.model}, {asked.examples} examples, batches of {asked.batch_size}"
    figure = Figure(what, "tokens/s", "more", speeds["star-rft"], baselines)
    notes = [f"{torch.get_num_threads()} torch threads"]
    if not write_json(asked.json, [figure], packages=["torch", "transformers", "trl"], notes=notes, speeds=speeds):
        show(asked, tokens_of["star-rft"], speeds)


def show(asked: argparse.Namespace, tokens: int, speeds: dict[str, list[float]]) -> None:
    print(
        f"{asked.model}: {asked.examples} examples, {tokens} tokens, batches of {asked.batch_size}, "
        f"{asked.repeats} interleaved repeats; {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, trl {trl.__version__}, transformers {transformers.__version__}"
    )
    base = speeds["TRL, defaults"]
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
        print(
            f"{name:32} {statistics.median(values):8.0f} tokens/s ({min(values):.0f} to {max(values):.0f}), "
            f"{ratio:.2f}x TRL's defaults"
        )


if __name__ == "__main__":
    main()
