"""How near the hf sampler comes to what memory and cores allow, and where its time goes.

    python benchmarks/roofline.py --model smollm2 --prompts 12 --rows 32 64 128
    python benchmarks/roofline.py --model smollm2 --prompts 64 --rows 256 512 1024        # on a GPU

The roofline: every step reads the weights once, each prompt of its rows once and what each row has written so far, at
the bandwidth that this machine shows when it only reads; and multiplies, at the rate that it shows for large products
of that dtype. A step takes at least the longer of both, and so does each prefill: drawing, Python and all else are
free. Rooflines are of the very steps that were taken, at the batch size that was fastest. transformers' `generate` is
beside it at its own best batch size; repeats are interleaved. The profile is of steps in the middle of one more run.

Imports star_rft.engines, star_rft.models, star_rft.runs: the sampler that it measures, and the description of the
machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from figures import Figure, add_json_option, write_json
from sampler import best_rows, by_generate, by_star_rft, prompts_for, rate
from torch.profiler import ProfilerActivity, profile, record_function

from star_rft import Decoding
from star_rft.engines.hf import batch
from star_rft.engines.hf.decoding import draw
from star_rft.engines.hf.kv_cache import SlotCache, SlotWrite
from star_rft.engines.hf.sampler import HFSampler
from star_rft.engines.tokenize import Prompt
from star_rft.models import load, resolve
from star_rft.models.spec import ModelSpec
from star_rft.runs.environment import machine

READ_BYTES = 2**30
PRODUCT = 2048  # a square of this side is large enough for any kernel
PROFILED_STEPS = 24
TOP = 12  # operators that are listed


@dataclass(frozen=True, slots=True)
class Machine:
    """What it does at its best: bytes read and operations done a second."""

    bandwidth: float
    flops: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A model, as decoding sees it: the parameters that are multiplied, so without an embedding that is looked up."""

    body: int
    head: int  # to logits
    weight_bytes: int
    cache_bytes: int  # keys and values of one position, over all layers
    attention_flops: int  # of one row and one position that it attends to, over all layers


@dataclass(frozen=True, slots=True)
class Work:
    """One forward. A prompt that rows share is read once and attended to by each."""

    tokens: int
    logits: int  # tokens that it predicts something for
    read: int
    attended: int


@dataclass(slots=True)
class Watch:
    """Stands before the sampler's two forwards and notes what each has to do."""

    steps: list[Work] = field(default_factory=list)
    prefills: list[Work] = field(default_factory=list)
    profiler: Any = None
    profile_from: int = 0
    profiled_s: float = 0.0

    @contextmanager
    def installed(self) -> Iterator[Watch]:
        step, prefill = batch.next_logits, batch.prefill
        with (
            patch.object(batch, "next_logits", partial(self._step, step)),
            patch.object(batch, "prefill", partial(self._prefill, prefill)),
            patch.object(batch, "draw", partial(self._draw, draw)),
        ):
            yield self

    def _step(
        self, real: Callable[..., Any], model: Any, cache: SlotCache, tokens: Sequence[int], rows: Sequence[SlotWrite]
    ) -> Any:
        if self.profiler is not None:
            self._profile(len(self.steps), model.device)
        written = sum(row.written + 1 for row in rows)
        prompts = {id(row.prefix): row.prefix.length for row in rows}
        attended = sum(row.prefix.length for row in rows) + written
        self.steps.append(Work(len(rows), len(rows), sum(prompts.values()) + written, attended))
        with self._named("forward"):
            return real(model, cache, tokens, rows)

    def _prefill(self, real: Callable[..., Any], model: Any, prompts: Sequence[Prompt]) -> Any:
        lengths = [len(prompt.ids) - 1 for prompt in prompts]
        self.prefills.append(Work(sum(lengths), 0, sum(lengths), sum(n * (n + 1) // 2 for n in lengths)))
        with self._named("prefill"):
            return real(model, prompts)

    def _draw(self, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self._named("draw"):
            return real(*arguments, **options)

    def _named(self, name: str) -> Any:
        return record_function(name) if self.profiler is not None else nullcontext()

    def _profile(self, step: int, device: torch.device) -> None:
        if step == self.profile_from:
            wait(device)
            self.profiler.start()
            self.profiled_s = -time.perf_counter()
        elif step == self.profile_from + PROFILED_STEPS:
            wait(device)
            self.profiled_s += time.perf_counter()
            self.profiler.stop()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shape_of(model: Any) -> Shape:
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    body = sum(one.numel() for one in model.parameters()) - inputs.numel() - (outputs is not inputs) * outputs.numel()
    text = model.config.get_text_config(decoder=True)
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        body,
        outputs.numel(),
        (body + outputs.numel()) * inputs.element_size(),
        cache_bytes=2 * text.num_hidden_layers * text.num_key_value_heads * width * inputs.element_size(),
        attention_flops=4 * text.num_hidden_layers * text.num_attention_heads * width,
    )


def seconds(work: Work, shape: Shape, at_best: Machine) -> tuple[float, float]:
    """Return the least time for reading and for multiplying."""
    reading = (shape.weight_bytes + work.read * shape.cache_bytes) / at_best.bandwidth
    products = 2 * (shape.body * work.tokens + shape.head * work.logits) + shape.attention_flops * work.attended
    return reading, products / at_best.flops


def best_of(action: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    """Return the shortest time, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        action()
        wait(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def measured_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    numbers = torch.ones(READ_BYTES // 4, device=device)
    bandwidth = READ_BYTES / best_of(numbers.sum, device)
    del numbers
    left, right = (torch.ones(PRODUCT, PRODUCT, device=device, dtype=dtype) for _ in range(2))
    return Machine(bandwidth, 2 * PRODUCT**3 / best_of(lambda: left @ right, device))


def profiled(watch: Watch, device: torch.device) -> dict[str, Any]:
    """Return the shares of the profiled wall time, by stage and by operator."""
    events = watch.profiler.key_averages()
    is_gpu = device.type == "cuda"
    wall_us = watch.profiled_s * 1e6
    stages = {one.key: one.cpu_time_total / wall_us for one in events if one.key in ("forward", "draw", "prefill")}

    def busy(one: Any) -> float:
        return float(one.self_device_time_total if is_gpu else one.self_cpu_time_total)

    ours = [one for one in events if one.key not in stages]
    top = sorted(ours, key=busy, reverse=True)[:TOP]
    return {
        "steps": PROFILED_STEPS,
        "ms a step": watch.profiled_s * 1000 / PROFILED_STEPS,
        "stages": {**stages, "all else": 1 - sum(stages.values())},
        "device busy" if is_gpu else "in operators": sum(map(busy, ours)) / wall_us,
        "operators": {one.key[:60]: [busy(one) / wall_us, one.count / PROFILED_STEPS] for one in top},
    }


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    path = resolve(asked.model, into=folder / asked.model)
    dtype = "float32" if asked.model == "tiny" else "bfloat16"
    sampler = HFSampler(ModelSpec(path, dtype=dtype))
    model, tokenizer = load(ModelSpec(path, dtype=dtype))
    device = model.device
    at_best = measured_machine(device, model.dtype)
    shape = shape_of(model)
    prompts = prompts_for(asked.model, tokenizer, asked.prompts)
    shared = {"k": asked.k, "decoding": Decoding(temperature=asked.temperature, max_tokens=asked.max_tokens)}
    engines: dict[str, Callable[..., list[int]]] = {"star-rft": partial(by_star_rft, sampler, **shared)}
    if not asked.skip_generate:
        engines["generate"] = partial(by_generate, model, tokenizer, **shared)
    rows = {name: best_rows(engine, asked.rows, prompts) for name, engine in engines.items()}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    rooflines, bounds, steps, rows_a_step = [], [], 0, 0.0
    for seed in range(1, asked.repeats + 1):
        for name, engine in engines.items():
            watch = Watch()
            with watch.installed():
                speed, lengths = rate(engine, prompts=prompts, rows=rows[name], seed=seed)
            rates[name].append(speed)
            print(f"{seed} {name}: {speed:.0f} tokens/s", file=sys.stderr)
            if watch.steps:
                steps, rows_a_step = len(watch.steps), statistics.fmean(work.tokens for work in watch.steps)
                least = [seconds(work, shape, at_best) for work in [*watch.steps, *watch.prefills]]
                rooflines.append(sum(lengths) / sum(map(max, least)))
                bounds.append(sum(max(one) for one in least if one[0] > one[1]) / sum(map(max, least)))
    # The steps of the last repeat again: what is profiled lies in their middle.
    middle = (steps - PROFILED_STEPS) // 2
    if middle < 0:
        raise SystemExit(f"{steps} steps are fewer than the {PROFILED_STEPS} of the profile: more --prompts")
    watch = Watch(profiler=new_profiler(device), profile_from=middle)
    with watch.installed():
        rate(engines["star-rft"], prompts=prompts, rows=rows["star-rft"], seed=asked.repeats)
    return {
        "machine": machine(),
        "load": os.getloadavg()[0],
        "model": asked.model,
        "dtype": dtype,
        "bandwidth GB/s": at_best.bandwidth / 1e9,
        "GFLOP/s": at_best.flops / 1e9,
        "weights MB": shape.weight_bytes / 1e6,
        "cache bytes": shape.cache_bytes,
        "rows": rows,
        "rows a step": rows_a_step,
        "rates": rates,
        "rooflines": rooflines,
        "bound by reading": statistics.median(bounds),
        "profile": profiled(watch, device),
    }


def new_profiler(device: torch.device) -> Any:
    return profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])])


def notes_of(found: Mapping[str, Any]) -> list[str]:
    """Say what the roofline is made of and where the time goes."""
    told = found["profile"]
    stages = ", ".join(f"{name} {share:.0%}" for name, share in told["stages"].items())
    return [
        f"reads {found['bandwidth GB/s']:.1f} GB/s, multiplies {found['GFLOP/s']:,.0f} GFLOP/s in {found['dtype']}",
        f"{found['model']}: {found['weights MB']:.0f} MB of weights, {found['cache bytes']:,} bytes of cache a token",
        f"{found['bound by reading']:.0%} of the roofline's time is reading, the rest multiplying",
        f"{told['steps']} steps of {told['ms a step']:.1f} ms: {stages}; {found['rows a step']:.0f} rows a step",
    ]


def shown(found: Mapping[str, Any]) -> str:
    ours, roofline = statistics.median(found["rates"]["star-rft"]), statistics.median(found["rooflines"])
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = [f"{about}, load {found['load']:.1f}", *notes_of(found), f"roofline       {roofline:9,.0f} tokens/s"]
    for name, rates in found["rates"].items():
        median, low, high = statistics.median(rates), min(rates), max(rates)
        lines.append(
            f"{name:10} {median:9,.0f} tokens/s ({low:,.0f} to {high:,.0f}), rows {found['rows'][name]}, "
            f"{median / roofline:.1%} of the roofline, star-rft is {ours / median:.2f}x"
        )
    told = found["profile"]
    for key in ("device busy", "in operators"):
        if key in told:
            lines.append(f"{key}: {told[key]:.0%} of that time; by operator:")
    lines += [
        f"  {share:6.1%}  {calls:6.1f} calls a step  {name}" for name, (share, calls) in told["operators"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2 or a folder")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 64, 128], help="batch sizes to try")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-generate", action="store_true")
    parser.add_argument("--folder", type=Path, help="where a dequantised model is kept between runs")
    add_json_option(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(asked, asked.folder or Path(temporary))
    what = f"sampling {asked.model} in {found['dtype']}, K={asked.k}"
    baselines = {name: rates for name, rates in found["rates"].items() if name != "star-rft"} | {
        "roofline": found["rooflines"]
    }
    figure = Figure(what, "tokens/s", "more", found["rates"]["star-rft"], baselines)
    if not write_json(asked.json, [figure], packages=["torch", "transformers"], notes=notes_of(found), **found):
        print(shown(found))


if __name__ == "__main__":
    main()
