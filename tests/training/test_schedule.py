"""What a round trains, and what it goes on from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from star_rft.runs.folder import RunFolder, float32_of
from star_rft.training.options import TrainingOptions
from star_rft.training.schedule import Places, PreferenceTraining, RoundTraining, SupervisedTraining
from star_rft.types import Example, Preference

EXAMPLE = Example((1,), (2,))
OPTIONS = TrainingOptions(lr=1e-3)
CONTINUING = SupervisedTraining(
    lambda *a, **k: None, replace(OPTIONS, max_steps=10), start="last", step_growth=1.2, continues_optimizer=True
)


@pytest.mark.parametrize(
    ("last", "expected"),
    [("base", None), ("warm", None), ("rounds/001/checkpoint", Path("rounds/001/checkpoint"))],
)
def test_the_optimizer_goes_on_from_a_round_and_never_from_where_the_loop_began(
    last: str, expected: Path | None, tmp_path: Path
) -> None:
    """A roll-back to the base leaves no moments to go on with, whatever the number of the round."""
    found = []
    for job in RoundTraining(CONTINUING, None).jobs(
        3,
        starts={"base": "base", "warm_start": "warm", "last": last},
        places=Places(tmp_path, tmp_path / "policy", tmp_path / "supervised", tmp_path / "verifier"),
        examples=lambda: [EXAMPLE],
        preferences=list,
    ):
        found.append((job.start, job.options))
    assert found == [(last, replace(OPTIONS, max_steps=14, save_optimizer=True, optimizer_from=expected))]


def fits_of(tmp_path: Path, training: RoundTraining, *, last: Path, has_next: bool = True) -> list[dict[str, Any]]:
    """Run a round's training and return the float32 options of each fit, with what it started from."""
    found: list[dict[str, Any]] = []
    for job in training.jobs(
        2,
        starts={"base": "base", "warm_start": "warm", "last": last},
        places=Places(tmp_path, tmp_path / "policy", tmp_path / "between", tmp_path / "verifier", has_next=has_next),
        examples=lambda: [EXAMPLE],
        preferences=lambda: [Preference((1,), ((2,), (3,)), (1.0, 0.0))],
    ):
        named = {"weights_from": job.options.weights_from, "float32_dir": job.options.float32_dir}
        kept = {name: folder for name, folder in named.items() if folder is not None}
        found.append({"start": job.start, **kept})
        for made in (job.out, job.options.float32_dir):
            if made is not None:
                made.mkdir()
    return found


def test_float32_weights_are_kept_for_what_trains_on_and_no_longer(tmp_path: Path) -> None:
    last = tmp_path / "last"
    (tmp_path / "last_float32").mkdir()
    supervised = replace(CONTINUING, options=OPTIONS, continues_optimizer=False)
    preference = PreferenceTraining(lambda *a, **k: None, OPTIONS, "trained", makes_verifier=False)
    assert fits_of(tmp_path, RoundTraining(supervised, preference), last=last) == [
        {"start": last, "weights_from": tmp_path / "last_float32", "float32_dir": tmp_path / "between_float32"},
        {
            "start": tmp_path / "between",
            "weights_from": tmp_path / "between_float32",
            "float32_dir": tmp_path / "policy_float32",
        },
    ]
    assert not (tmp_path / "between_float32").exists()
    assert (tmp_path / "policy_float32").exists()


@pytest.mark.parametrize(("start", "has_next"), [("base", True), ("last", False)])
def test_no_float32_weights_are_kept_that_nothing_trains_on(tmp_path: Path, start: str, has_next: bool) -> None:
    supervised = replace(CONTINUING, options=OPTIONS, start=start, continues_optimizer=False)
    ((found),) = fits_of(tmp_path, RoundTraining(supervised, None), last=tmp_path / "last", has_next=has_next)
    assert found.keys() == {"start"}


def test_a_round_that_trained_removes_the_float32_weights_of_those_before_but_for_the_best(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (1, 2, 3):
        float32_of(folder.checkpoint(number)).mkdir(parents=True)
        gate = {"evidence": {"best": 1}} if number < 3 else None
        folder.metrics(number).write_text(json.dumps({"gate": gate}))
    float32_of(folder.warm_start).mkdir()
    folder.remove_float32(4)
    assert [number for number in (1, 2, 3) if float32_of(folder.checkpoint(number)).exists()] == [1]
    assert float32_of(folder.warm_start).exists()
