"""A small random Llama with a tokenizer of single characters, and the hf sampler of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from star_rft.engines.hf.sampler import HFSampler
from tests.small_models import save_random_llama


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def sampler(checkpoint: Path) -> HFSampler:
    return HFSampler(checkpoint, batch_size=64)


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files are the test's own: the log of an engine that died stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
