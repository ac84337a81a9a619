from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports.made_run import COMPARING, chat_model, make_run


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of plain prompts that has selected, not trained, and compared nothing."""
    return make_run(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template, a system prompt and an example."""
    folder = tmp_path_factory.mktemp("chat")
    prompt = {"template": "{question}", "system": "Count.", "few_shot": [{"prompt": "1 + 1?", "completion": "2"}]}
    return make_run(folder / "run", chat_model(folder / "model"), prompt=prompt)


@pytest.fixture(scope="session")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ranks its traces, with the reference solution, by RRHF."""
    return make_run(tmp_path_factory.mktemp("comparing") / "run", **COMPARING)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what `datasets` makes of a file out of the user's cache, where an older export may lie."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"
