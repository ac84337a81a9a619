"""A small random Llama with a tokenizer of single characters, and the hf sampler of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_rft.samplers.hf import HFSampler
from tests.models import save_random_llama


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def sampler(checkpoint: Path) -> HFSampler:
    return HFSampler(checkpoint, batch_size=64)
