"""The server backend for the conformance suite: over our own sampler, and over a real `vllm serve`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from star_rft.engines.server.sampler import ServerSampler
from star_rft.types import Sampler
from tests.engines.conformance import Backend

SERVE_TINY = f"{sys.executable} {Path(__file__).with_name('serve_tiny.py')} {{model}} {{port}}"


@contextmanager
def tiny(folder: Path) -> Iterator[Sampler]:
    sampler = ServerSampler(folder, start=SERVE_TINY, log=folder.parent / "server.log", concurrency=96)
    yield sampler
    sampler.close()


def server_backend() -> Backend:
    return Backend("server", tiny, "1", greedy_agreement=1.0)


@contextmanager
def vllm(folder: Path) -> Iterator[Sampler]:
    sampler = ServerSampler(folder, start=vllm_command(), log=folder.parent / "vllm.log", start_timeout=280)
    yield sampler
    sampler.close()


def vllm_command() -> str:
    """Return what serves a model on this machine's cores; the test is skipped where there is no vLLM."""
    python = os.environ.get("STAR_RFT_VLLM_PYTHON")
    if python is None:
        pytest.skip("STAR_RFT_VLLM_PYTHON names no interpreter that has vLLM")
    return (
        f"env VLLM_CPU_KVCACHE_SPACE=1 {python} -m vllm.entrypoints.openai.api_server --model {{model}} --port {{port}}"
        " --host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 512 --max-num-seqs 64"
        # With a prompt in chunks vLLM 0.32 turns back a request's generator, which that of a CPU cannot do.
        " --no-enable-chunked-prefill"
    )


def vllm_server_backend() -> Backend:
    # Requests meet in other batches each time, and batch shape moves the last digits.
    return Backend("server", vllm, "1", is_seeded=False, logprob_error=1e-2)
