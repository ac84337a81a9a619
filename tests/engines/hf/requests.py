"""Requests for the samplers, and transformers' own greedy completions to compare with."""

from __future__ import annotations

from typing import Any

import torch

from star_rft.types import Request

PROMPTS = ["once upon a time", "a", "the cat sat on the mat. ", "x.y", "hello there", "wx", "q" * 30]


def requests_for(prompts: list[str], samples: int, *, base_seed: int = 0) -> list[Request]:
    return [
        Request(f"p{i}", sample_index, prompt, seed=(base_seed << 40) + (i << 20) + sample_index)
        for i, prompt in enumerate(prompts)
        for sample_index in range(samples)
    ]


def greedy_by_generate(model: Any, ids: list[int], max_tokens: int) -> list[int]:
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=max_tokens,
        temperature=1.0,
        top_k=50,
        repetition_penalty=1.0,
    )
    return output[0, len(ids) :].tolist()
