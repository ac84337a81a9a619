"""Liger's kernels are an offer: nothing changes without them, and who insists hears what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from star_rft.errors import TrainingError
from star_rft.models import load
from star_rft.training.model import apply_liger
from tests.training.conftest import random_examples
from tests.training.fits import fit


def test_without_a_gpu_a_model_stays_as_it_is(base: Path) -> None:
    model, _ = load(base)
    before = {name: type(module) for name, module in model.named_modules()}
    assert not apply_liger(model, wanted="auto", device="cpu")
    assert not apply_liger(model, wanted=False, device="cuda")
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_who_insists_on_them_is_told_what_is_missing(base: Path, tmp_path: Path) -> None:
    is_there = importlib.util.find_spec("liger_kernel") is not None
    missing = "run on a CUDA GPU" if is_there else r"is not installed \(pip install 'star-rft\[liger\]'\)"
    with pytest.raises(TrainingError, match=f"liger is true, but .*{missing}"):
        fit(
            random_examples(4), model_path=base, out_dir=tmp_path / "out", work_dir=tmp_path / "work", lr=1e-3,
            device="cpu", liger=True,
        )  # fmt: skip


@pytest.mark.gpu
def test_on_a_gpu_the_loss_curve_is_the_same_with_them(base: Path, tmp_path: Path) -> None:
    losses: dict[bool, list[float]] = {True: [], False: []}
    for is_on, told in losses.items():
        fit(
            random_examples(32), model_path=base, out_dir=tmp_path / f"{is_on}", work_dir=tmp_path / "work", lr=1e-3,
            max_steps=8, batch_size=8, liger=is_on, on_step=lambda *step, to=told: to.append(step[2]),
        )  # fmt: skip
    assert losses[True] == pytest.approx(losses[False], rel=2e-2)
