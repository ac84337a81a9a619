"""Tokens a second of star-rft's sampler against transformers' own ways to draw K samples a prompt.

    python benchmarks/sampler.py --model tiny
    python benchmarks/sampler.py --model smollm2 --prompts 12
    python benchmarks/sampler.py --model smollm2 --skip-generate --skip-continuous --vllm .venv-vllm/bin/python

The same prompts (built-in word problems), K, temperature and token limit for all; lengths are those at which
the model itself ends. `generate` runs on batches sorted by prompt length, K samples a prompt by
num_return_sequences; continuous batching gets K copies of each prompt. vLLM is star-rft's own backend of that name, in
an environment that --vllm names (`make vllm`), and batches by itself. Both engines with a batch size try
the same sizes first and then run at their own best. Repeats are interleaved, because the machine may be busy;
vLLM comes last, because its processes spin while they wait.
Tokens after an end of sequence count for nobody.

Imports star_rft.engines, star_rft.models: the sampler that it measures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from figures import Figure, add_json_option, write_json

import star_rft
from star_rft import Decoding, Request, Sampler
from star_rft.engines.hf.sampler import HFSampler
from star_rft.models import load, resolve
from star_rft.models.spec import ModelSpec

Lengths = list[int]  # tokens of each completion, the end of sequence included


def prompts_for(model: str, tokenizer: Any, count: int) -> list[str]:
    problems = star_rft.load_problems("word_problems", split="train", options={"n": count, "seed": 1})
    questions = [problem.prompt for problem in problems]
    if model == "tiny":
        return [f"Question: {question}\nAnswer:" for question in questions]
    chats = [[{"role": "user", "content": question}] for question in questions]
    return [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]


def by_star_rft(sampler: Sampler, prompts: Sequence[str], k: int, decoding: Decoding, rows: int, seed: int) -> Lengths:
    requests = [
        Request(str(i), sample_index, prompt, seed=(seed << 40) + i * k + sample_index)
        for i, prompt in enumerate(prompts)
        for sample_index in range(k)
    ]
    return [len(one.token_ids) for one in sampler.sample(requests, decoding=decoding, batch_size=rows)]


def generation_config(model: Any, tokenizer: Any, decoding: Decoding) -> Any:
    return transformers.GenerationConfig(
        do_sample=True,
        temperature=decoding.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=decoding.max_tokens,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def by_generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], k: int, decoding: Decoding, rows: int, seed: int
) -> Lengths:
    torch.manual_seed(seed)
    config = generation_config(model, tokenizer, decoding)
    config.num_return_sequences = k
    ids = sorted(tokenizer(list(prompts), add_special_tokens=False)["input_ids"], key=len, reverse=True)
    lengths = []
    for start in range(0, len(ids), max(rows // k, 1)):
        batch = tokenizer.pad(
            {"input_ids": ids[start : start + max(rows // k, 1)]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        output = model.generate(**batch, generation_config=config)
        for row in output[:, batch["input_ids"].shape[1] :].tolist():
            ends = row.index(config.eos_token_id) + 1 if config.eos_token_id in row else len(row)
            lengths.append(ends)
    return lengths


def by_continuous_batching(
    model: Any, tokenizer: Any, prompts: Sequence[str], k: int, decoding: Decoding, rows: int, seed: int
) -> Lengths:
    torch.manual_seed(seed)
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    outputs = model.generate_batch(
        inputs=[prompt for prompt in ids for _ in range(k)],
        generation_config=generation_config(model, tokenizer, decoding),
        continuous_batching_config=transformers.ContinuousBatchingConfig(
            max_requests_per_batch=rows, max_batch_tokens=1024, num_blocks=2 * rows, seed=seed
        ),
    )
    if len(outputs) < len(ids) * k:
        raise RuntimeError(f"it returned {len(outputs)} of {len(ids) * k} completions (its log says why)")
    return [len(output.generated_tokens) for output in outputs.values()]


def rate(engine: Callable[..., Lengths], **arguments: Any) -> tuple[float, Lengths]:
    """Run once; return tokens a second and the lengths."""
    started = time.perf_counter()
    lengths = engine(**arguments)
    return sum(lengths) / (time.perf_counter() - started), lengths


def best_rows(engine: Callable[..., Lengths], choices: Sequence[int], prompts: Sequence[str]) -> int:
    """Return the batch size that was fastest on the prompts; the first run is for what happens once."""
    if len(choices) == 1:
        rate(engine, prompts=prompts[:1], rows=choices[0], seed=0)
        return choices[0]
    rates = {rows: rate(engine, prompts=prompts, rows=rows, seed=0)[0] for rows in choices}
    print("   rows:", {rows: round(speed) for rows, speed in rates.items()}, file=sys.stderr)
    return max(rates, key=lambda rows: rates[rows])


def add_vllm(
    arguments: argparse.Namespace,
    path: Path | str,
    dtype: str,
    prompts: Sequence[str],
    shared: dict[str, Any],
    rates: dict[str, list[float]],
    lengths: dict[str, Lengths],
) -> str:
    """Measure vLLM when all others are done, for its idle processes would keep the cores busy. Returns its version."""
    from star_rft.engines.vllm.sampler import VLLMSampler

    env = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    sampler = VLLMSampler(ModelSpec(path, dtype=dtype), python=arguments.vllm, eager=arguments.eager, env=env)
    rate(by_star_rft, sampler=sampler, prompts=prompts[:2], rows=0, seed=0, **shared)  # what it does once
    rates["vLLM"], lengths["vLLM"] = [], []
    for seed in range(1, arguments.repeats + 1):
        speed, drawn = rate(by_star_rft, sampler=sampler, prompts=prompts, rows=0, seed=seed, **shared)
        print(f"{seed} vLLM: {speed:.0f} tokens/s", file=sys.stderr)
        rates["vLLM"].append(speed)
        lengths["vLLM"] += drawn
    sampler.close()
    return sampler.version


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    path = resolve(arguments.model, into=folder / arguments.model)
    dtype = "float32" if arguments.model == "tiny" else "bfloat16"
    sampler = HFSampler(ModelSpec(path, dtype=dtype))
    model, tokenizer = load(ModelSpec(path, dtype=dtype))
    prompts = prompts_for(arguments.model, tokenizer, arguments.prompts)
    decoding = Decoding(temperature=arguments.temperature, max_tokens=arguments.max_tokens)
    shared = {"k": arguments.k, "decoding": decoding}
    engines: dict[str, Callable[..., Lengths]] = {
        "star-rft": partial(by_star_rft, sampler, **shared),
    }
    if not arguments.skip_generate:
        engines["generate"] = partial(by_generate, model, tokenizer, **shared)
    rows: dict[str, int] = {}
    for name, engine in engines.items():
        print(f"{name}: which batch size?", file=sys.stderr)
        rows[name] = best_rows(engine, arguments.rows, prompts)
    report: dict[str, Any] = {}
    if not arguments.skip_continuous:
        name, paged = "continuous batching", load(ModelSpec(path, dtype=dtype))[0]
        its_rows = rows.get("generate", rows["star-rft"])
        engine = partial(by_continuous_batching, paged, tokenizer, **shared)
        try:
            rate(engine, prompts=prompts[:2], rows=its_rows, seed=0)
            engines[name], rows[name] = engine, its_rows
        except Exception as error:  # noqa: BLE001 a benchmark reports what a baseline cannot do, whatever it raises
            report["continuous batching refused"] = f"{type(error).__name__}: {error}".splitlines()[0]
    rates: dict[str, list[float]] = {name: [] for name in engines}
    lengths: dict[str, Lengths] = {name: [] for name in engines}
    for seed in range(1, arguments.repeats + 1):
        for name, engine in engines.items():
            speed, drawn = rate(engine, prompts=prompts, rows=rows[name], seed=seed)
            print(f"{seed} {name}: {speed:.0f} tokens/s", file=sys.stderr)
            rates[name].append(speed)
            lengths[name] += drawn
    if arguments.vllm is not None:
        report["vLLM version"] = add_vllm(arguments, path, dtype, prompts, shared, rates, lengths)
        rows["vLLM"] = 0
    return {
        **report,
        "model": arguments.model,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "prompts": arguments.prompts,
        "k": arguments.k,
        "temperature": arguments.temperature,
        "max_tokens": arguments.max_tokens,
        "engines": summary(rows, rates, lengths),
        "rates": rates,
    }


def summary(
    rows: Mapping[str, int], rates: Mapping[str, list[float]], lengths: Mapping[str, Lengths]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each engine, with the ratio to its median."""
    medians = {name: statistics.median(speeds) for name, speeds in rates.items()}
    return {
        name: {
            "rows": rows[name],
            "tokens_per_second": round(medians[name], 1),
            "spread": [round(min(rates[name]), 1), round(max(rates[name]), 1)],
            "star_rft_is_faster_by": round(medians["star-rft"] / medians[name], 2),
            "length_quartiles": [round(q) for q in statistics.quantiles(lengths[name], n=4)],
            "longest": max(lengths[name]),
        }
        for name in rates
    }


def figure_of(report: Mapping[str, Any]) -> Figure:
    quartiles = ", ".join(str(q) for q in report["engines"]["star-rft"]["length_quartiles"])
    what = f"sampling {report['model']} in {report['dtype']}, K={report['k']}, lengths with quartiles {quartiles}"
    baselines = {name: rates for name, rates in report["rates"].items() if name != "star-rft"}
    return Figure(what, "tokens/s", "more", report["rates"]["star-rft"], baselines)


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """Say what the figure does not: batch sizes, threads, what a baseline could not do."""
    rows = ", ".join(f"{name} {one['rows']}" for name, one in report["engines"].items() if one["rows"])
    refused = report.get("continuous batching refused")
    return [
        f"batch sizes: {rows}; {report['threads']} torch threads",
        *([f"vLLM {report['vLLM version']}"] if "vLLM version" in report else []),
        *([f"continuous batching: {refused}"] if refused else []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "smollm2"], default="tiny")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 64, 128], help="batch sizes to try")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip-continuous", action="store_true")
    parser.add_argument("--skip-generate", action="store_true")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    parser.add_argument("--eager", action="store_true", help="vLLM without compiled graphs")
    parser.add_argument("--folder", type=Path, help="where a dequantised model is kept between runs")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        report = measure(arguments, arguments.folder or Path(temporary))
    figure = figure_of(report)
    if write_json(arguments.json, [figure], packages=["torch", "transformers"], notes=notes_of(report), **report):
        return
    engines = report.pop("engines")
    del report["rates"]
    print(", ".join(f"{key} {value}" for key, value in report.items()))
    for name, result in engines.items():
        low, high = result["spread"]
        print(
            f"{name:20} {result['tokens_per_second']:8.0f} tokens/s ({low:.0f} to {high:.0f}), "
            f"rows {result['rows']}, star-rft is {result['star_rft_is_faster_by']:.2f}x; "
            f"lengths: quartiles {result['length_quartiles']}, longest {result['longest']}"
        )


if __name__ == "__main__":
    main()
