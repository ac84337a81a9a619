"""Optimizer continuation over rounds: the moments go on, schedule and data are each round's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from star_rft.errors import TrainingError
from star_rft.training.options import FitReport, LoraSpec
from star_rft.types import Example
from tests.training.conftest import END, VOCABULARY
from tests.training.fits import fit

# Of unequal lengths, so that a step over all of them adds up in the same order whatever order they are drawn in.
EXAMPLES = [Example((3, 4), (*range(5, 5 + n), END)) for n in range(1, 7)]


def train(model: Path, work: Path, out: Path, **changes: Any) -> FitReport:
    values: dict[str, Any] = {
        "lr": 1e-2, "schedule": "constant", "warmup_ratio": 0.0, "max_steps": 3, "batch_size": len(EXAMPLES),
        "device": "cpu", **changes,
    }  # fmt: skip
    return fit(EXAMPLES, model_path=model, out_dir=out, work_dir=work, **values)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first round of three steps, with its optimizer."""
    folder = tmp_path_factory.mktemp("first")
    train(base, folder / "work", folder / "out", save_optimizer=True)
    return folder / "out"


@pytest.fixture(scope="module")
def in_one_go(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("in_one_go")
    train(base, folder / "work", folder / "out", max_steps=6)
    return weights(folder / "out")


def test_two_rounds_with_one_optimizer_are_one_training(
    first: Path, in_one_go: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    report = train(first, tmp_path / "work", tmp_path / "out", optimizer_from=first)
    assert report.steps == 3  # no batch of the new round is skipped
    torch.testing.assert_close(weights(tmp_path / "out"), in_one_go, rtol=0, atol=0)


def test_without_it_the_second_round_starts_anew(
    first: Path, in_one_go: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    train(first, tmp_path / "work", tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(weights(tmp_path / "out")[name], in_one_go[name], atol=1e-3)
    assert not (tmp_path / "out" / "optimizer.pt").exists()


def test_a_round_that_continues_an_optimizer_resumes_to_the_same_bits(
    first: Path, in_one_go: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def stop_at_3(step: int, *rest: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    folders = first, tmp_path / "work", tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(*folders, optimizer_from=first, save_optimizer=True, save_steps=1, on_step=stop_at_3)
    steps: list[int] = []
    train(
        *folders,
        optimizer_from=first,
        save_optimizer=True,
        save_steps=1,
        on_step=lambda step, *rest: steps.append(step),
    )
    assert steps == [3]
    torch.testing.assert_close(weights(tmp_path / "out"), in_one_go, rtol=0, atol=0)


def test_only_moments_are_written_under_the_names_of_parameters(first: Path) -> None:
    saved = torch.load(first / "optimizer.pt", weights_only=True)
    assert saved.keys() == {"shapes", "state"}
    assert saved["state"].keys() == saved["shapes"].keys()
    assert saved["shapes"]["model.embed_tokens.weight"] == [VOCABULARY, 32]
    assert all(entries.keys() == {"step", "exp_avg", "exp_avg_sq"} for entries in saved["state"].values())


def test_the_optimizer_is_part_of_what_a_training_is(base: Path, first: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "work", tmp_path / "out")
    for changes in ({"save_optimizer": True}, {"optimizer_from": first}):
        with pytest.raises(TrainingError, match="other examples or settings"):
            train(base, tmp_path / "work", tmp_path / "out", **changes)


def test_an_optimizer_that_is_not_there_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds no optimizer\.pt: it is written with save_optimizer"):
        train(base, tmp_path / "work", tmp_path / "out", optimizer_from=base)


def test_an_optimizer_of_another_model_is_refused(base: Path, first: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    config = LlamaConfig.from_pretrained(base, num_hidden_layers=1)
    LlamaForCausalLM(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(base).save_pretrained(other)
    with pytest.raises(TrainingError, match="of another model"):
        train(other, tmp_path / "work", tmp_path / "out", optimizer_from=first)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keyword", ["optimizer_from", "save_optimizer"])
def test_lora_and_a_kept_optimizer_do_not_go_together(base: Path, first: Path, tmp_path: Path, keyword: str) -> None:
    changes = {"optimizer_from": first} if keyword == "optimizer_from" else {"save_optimizer": True}
    with pytest.raises(TrainingError, match="with lora"):
        train(base, tmp_path / "work", tmp_path / "out", lora=LoraSpec(), **changes)


def test_a_copy_of_a_round_continues_like_the_round(first: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(first, tmp_path / "copy")
    report = train(first, tmp_path / "work", tmp_path / "out", optimizer_from=first)
    assert train(copy, tmp_path / "work", tmp_path / "out", optimizer_from=copy) == report
