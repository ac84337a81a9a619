"""What every backend promises (`star_rft.types.Sampler`), and what a backend supplies to be held against it.

`test_conformance.py` runs every check over every backend of `BACKENDS` there. A backend is one `Backend`: a name, and
a function that opens its sampler on a model folder as a context manager, which closes it and whatever it started. A
backend that needs something which this machine may lack (an interpreter, a server) calls `pytest.skip` in there, with
the reason, and is marked in `test_conformance.py`. Where a backend promises less than the hf backend it says so in a
field below, so that each exception stands in one place.

The model is the shipped one with a hostile generation config (`hostile_model`): sampling defaults that must not leak,
and a second end-of-sequence token, whose text must not appear. Its sampler is opened once for all checks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from star_rft.data.generators.word_problems import generate
from star_rft.engines.vllm.sampler import VLLMSampler
from star_rft.models import ASSETS, load_tokenizer
from star_rft.models.spec import ModelSpec
from star_rft.types import Completion, Decoding, Request, Sampler

LIMIT = 512  # positions of the model
SECOND_EOS = "Then"  # a token of plain text that ends a completion besides </s>
PLAIN = Decoding(temperature=1.0, max_tokens=80)
GREEDY = Decoding(temperature=0.0, max_tokens=80)


@dataclass(frozen=True)
class Backend:
    """How to open a backend, and what it does not promise.

    `open(folder)` yields a ready sampler for the model in `folder` in fp32. `version` is what the ledger records.
    `is_seeded`: equal requests give equal completions. `greedy_agreement` is the least share of greedy tokens that are
    those of a plain forward. `logprob_error` bounds the error of a sum of log-probabilities, in nats.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[Sampler]]
    version: str
    is_seeded: bool = True
    greedy_agreement: float = 0.95
    logprob_error: float = 1e-3


def hostile_model(folder: Path) -> Path:
    """Copy the shipped model, with defaults that must not leak into sampling and a second end-of-sequence token."""
    shutil.copytree(ASSETS / "tiny", folder)
    second = load_tokenizer(folder)(SECOND_EOS, add_special_tokens=False)["input_ids"][0]
    config = GenerationConfig(
        bos_token_id=1,
        eos_token_id=[2, second],
        pad_token_id=0,
        do_sample=True,
        top_k=2,
        temperature=0.3,
        repetition_penalty=1.5,
        max_new_tokens=5,
    )
    config.save_pretrained(folder)
    return folder


def prompts(count: int) -> list[str]:
    """Return prompts of the one form that the model knows."""
    return [f"Question: {p.question}\nAnswer:" for p in generate(count, split="train", seed=7, steps=(2, 3))]


def groups_of(sampler: VLLMSampler) -> list[int]:
    """The process groups of a sampler's engines."""
    assert sampler._replicas is not None
    return [replica.process.pid for replica in sampler._replicas._replicas]


def requests(texts: Sequence[str], samples: int, *, seed: int = 0) -> list[Request]:
    return [
        Request(f"p{i}", sample_index, text, seed=(seed << 48) + (i << 20) + sample_index)
        for i, text in enumerate(texts)
        for sample_index in range(samples)
    ]


def keyed(completions: Sequence[Completion]) -> dict[tuple[str, int], Completion]:
    return {(one.request.problem_id, one.request.sample_index): one for one in completions}


@dataclass(frozen=True)
class Reference:
    """The model itself, without any sampler: what completions are held against."""

    model: Any
    tokenizer: Any
    eos_ids: frozenset[int]

    @classmethod
    def of(cls, folder: Path, eos_ids: Iterable[int] = ()) -> Reference:
        """Load it; `eos_ids` are those of its generation config unless given."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, load_tokenizer(folder), frozenset(eos_ids or model.generation_config.eos_token_id))

    def ids(self, prompt: str) -> list[int]:
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    @torch.no_grad()
    def logprobs_T_V(self, one: Completion) -> torch.Tensor:
        """Return the log-probabilities from which each token of a completion was drawn, at temperature 1."""
        prompt = self.ids(one.request.prompt)
        logits_T_V = self.model(input_ids=torch.tensor([[*prompt, *one.token_ids]])).logits[0]
        return logits_T_V[len(prompt) - 1 : -1].double().log_softmax(-1)

    def logprob(self, one: Completion) -> float:
        logprobs_T_V = self.logprobs_T_V(one)
        return sum(logprobs_T_V[t, token].item() for t, token in enumerate(one.token_ids))

    @torch.no_grad()
    def first_token_probabilities(self, prompt: str) -> torch.Tensor:
        logits_V = self.model(input_ids=torch.tensor([self.ids(prompt)])).logits[0, -1]
        return logits_V.double().softmax(-1)


@contextmanager
def hf(folder: Path) -> Iterator[Sampler]:
    from star_rft.engines.hf.sampler import HFSampler

    sampler = HFSampler(ModelSpec(folder, dtype="float32", device="cpu"), batch_size=32)
    yield sampler
    sampler.close()


def hf_backend() -> Backend:
    import transformers

    return Backend("hf", hf, transformers.__version__, greedy_agreement=1.0)


@contextmanager
def vllm(folder: Path) -> Iterator[Sampler]:
    sampler = VLLMSampler(ModelSpec(folder, dtype="float32"), python=vllm_python(), **VLLM_SMALL)
    yield sampler
    sampler.close()


# One process, little memory and no compilation: what starts in the shortest time on a CPU.
VLLM_SMALL: dict[str, Any] = {
    "eager": True,
    "env": {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"},
    "options": {"kv_cache_memory_bytes": 2**27, "max_num_seqs": 64},
}


def vllm_python() -> str:
    """Return the interpreter of an environment with vLLM, or skip."""
    python = os.environ.get("STAR_RFT_VLLM_PYTHON")
    if not python:
        pytest.skip("STAR_RFT_VLLM_PYTHON names no interpreter of an environment with vLLM (make vllm makes one)")
    return python


def vllm_backend() -> Backend:
    from star_rft.engines.vllm.engine import vllm_version

    return Backend("vllm", vllm, vllm_version(vllm_python()))
