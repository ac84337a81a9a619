"""Preference training compares with a reference that has no dropout, so the policy has none either."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft.errors import TrainingError
from star_rft.training.dropout import rest, switch_off
from star_rft.training.forward import Forward
from star_rft.training.options import LoraSpec
from tests.tiers import fast_only
from tests.training.architectures import SETTINGS, WrappedLlama, small_model, write_model
from tests.training.conftest import random_preferences
from tests.training.fits import fit_preferences

RANDOM = ("opt", "gpt_bigcode", "seed_oss", "phi", "gpt2", "bloom", "falcon-alibi", "mixtral", "phimoe")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", fast_only(RANDOM, "gpt2", "mixtral"))
def test_the_first_loss_of_dpo_is_the_logarithm_of_two(
    base: Path, tmp_path: Path, name: str, checkpointing: bool
) -> None:
    folder = write_model(small_model(name), tmp_path / "model", tokenizer_of=base)
    report = fit_preferences(
        random_preferences(4), objective="dpo", model_path=folder, out_dir=tmp_path / "out", work_dir=tmp_path / "work",
        lr=1e-3, max_steps=1, device="cpu", gradient_checkpointing=checkpointing, router_loss=False,
    )  # fmt: skip
    assert report.loss_first == pytest.approx(math.log(2), abs=1e-6)
    before, after = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "out"))
    assert {key: after[key] for key in SETTINGS[name] if key in after} == {
        key: before[key] for key in SETTINGS[name] if key in before
    }


def test_the_dropout_of_adapters_stays(base: Path, tmp_path: Path) -> None:
    folder = write_model(small_model("opt"), tmp_path / "model", tokenizer_of=base)
    losses: dict[float, list[float]] = {0.0: [], 0.5: []}
    for rate, found in losses.items():
        fit_preferences(
            random_preferences(8), objective="dpo", model_path=folder, out_dir=tmp_path / str(rate),
            work_dir=tmp_path / "work", lr=1e-2, max_steps=4, device="cpu", lora=LoraSpec(r=4, dropout=rate),
            on_step=lambda *step, to=found: to.append(step[2]),
        )  # fmt: skip
    assert losses[0.0][0] == losses[0.5][0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[0.0][-1] != losses[0.5][-1]


def test_randomness_that_cannot_be_switched_off_is_refused() -> None:
    class Noisy(WrappedLlama):
        def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            out = self.inner(input_ids=input_ids, **kwargs)
            out.logits = out.logits + torch.rand_like(out.logits)
            return out

    with pytest.raises(TrainingError, match="Noisy computes something else each time in training"):
        switch_off(Noisy(), Forward(), checkpoints=False)


def test_modules_that_checkpoint_stay_in_training() -> None:
    model = small_model("opt")
    resting = switch_off(model, Forward(), checkpoints=True)
    model.train()
    rest(resting)
    layers = model.model.decoder.layers
    assert all(layer.training and layer.dropout == 0.0 for layer in layers)
    assert not any(layer.self_attn.training for layer in layers)
