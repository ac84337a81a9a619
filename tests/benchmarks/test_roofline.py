"""The roofline of the hf sampler is estimated of the steps that it took; nothing is timed here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from star_rft.engines.hf.sampler import HFSampler
from star_rft.models import load, resolve
from star_rft.models.spec import ModelSpec
from star_rft.types import Decoding, Request
from tests.programs import benchmark

PROMPTS = ["Question: What is 2 + 3?\nAnswer:", "Question: 7 - 4?\nAnswer:"]


@pytest.fixture(scope="module")
def roofline() -> ModuleType:
    return benchmark("roofline")


def test_every_token_is_counted_and_a_shared_prompt_is_read_once(roofline: ModuleType, tmp_path: Path) -> None:
    sampler = HFSampler(ModelSpec(resolve("tiny", into=tmp_path), dtype="float32"))
    prompts = [len(sampler.tokenizer(prompt, add_special_tokens=False)["input_ids"]) - 1 for prompt in PROMPTS]
    requests = [Request(str(i), k, prompt, seed=9 * i + k) for i, prompt in enumerate(PROMPTS) for k in range(3)]
    with roofline.Watch().installed() as watch:
        drawn = list(sampler.sample(requests, decoding=Decoding(temperature=1.0, max_tokens=12), batch_size=6))
    assert sum(step.tokens for step in watch.steps) == sum(len(one.token_ids) for one in drawn)
    assert [(work.tokens, work.logits) for work in watch.prefills] == [(sum(prompts), 0)]
    first = watch.steps[0]
    assert (first.tokens, first.logits) == (6, 6)
    assert first.read == sum(prompts) + 6
    assert first.attended == 3 * sum(prompts) + 6
    assert watch.steps[1].read <= first.read + 6


def test_a_step_takes_at_least_what_it_reads_and_multiplies(roofline: ModuleType) -> None:
    shape = roofline.Shape(body=100, head=50, weight_bytes=300, cache_bytes=8, attention_flops=4)
    work = roofline.Work(tokens=3, logits=2, read=10, attended=20)
    reading, multiplying = roofline.seconds(work, shape, roofline.Machine(bandwidth=10.0, flops=100.0))
    assert reading == pytest.approx((300 + 80) / 10)
    assert multiplying == pytest.approx((2 * (300 + 100) + 80) / 100)


def test_an_embedding_that_is_also_the_head_is_multiplied_once(roofline: ModuleType, tmp_path: Path) -> None:
    model, _ = load(ModelSpec(resolve("tiny", into=tmp_path), dtype="float32"))
    shape = roofline.shape_of(model)
    layers = sum(one.numel() for one in model.model.layers.parameters()) + model.model.norm.weight.numel()
    vocabulary = model.lm_head.weight.numel()
    assert (shape.body, shape.head) == (layers, vocabulary)
    assert shape.weight_bytes == 4 * (layers + vocabulary)
    keys = model.model.layers[0].self_attn.k_proj.weight.shape[0]
    assert shape.cache_bytes == len(model.model.layers) * 2 * keys * 4
