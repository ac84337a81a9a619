"""Preference objectives as plug-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft import config as configs
from star_rft.build import check_names
from star_rft.errors import TrainingError
from star_rft.training.registry import OBJECTIVES, CompletionPairs, ObjectiveSpec, objective
from tests.training.conftest import random_preferences
from tests.training.fits import fit_preferences

HINGE = f"{__name__}:hinge"
CONFIG: dict[str, Any] = {
    "name": "preferring", "data": {"train": "word_problems", "dev": "word_problems"},
    "select": {"rules": ["correct", "pairs"]},
}  # fmt: skip


@objective(needs_reference=False)
def hinge(pairs: CompletionPairs, *, margin: float = 1.0) -> torch.Tensor:
    return torch.relu(margin - (pairs.better - pairs.worse))


def ipo(pairs: CompletionPairs, *, tau: float) -> torch.Tensor:
    ratio_P = (pairs.better - pairs.better_reference) - (pairs.worse - pairs.worse_reference)
    return (ratio_P - 1 / (2 * tau)) ** 2


def train(base: Path, tmp_path: Path, given: Any, **options: Any) -> tuple[float, float]:
    report = fit_preferences(
        random_preferences(8), model_path=base, out_dir=tmp_path / "out", work_dir=tmp_path / "work", objective=given,
        max_steps=1, **options,
    )  # fmt: skip
    return report.loss_first, report.loss_last


def test_one_of_a_module_trains_with_the_reference_and_its_options(base: Path, tmp_path: Path) -> None:
    # Before the first step the policy is the reference, so that every ratio is 0.
    assert train(base, tmp_path, {f"{__name__}:ipo": {"tau": 0.25}})[0] == pytest.approx(4.0)


def test_one_without_a_reference_compares_the_policys_log_probabilities(base: Path, tmp_path: Path) -> None:
    first, _ = train(base, tmp_path, {"hinge": {"margin": 1000.0}})
    losses = [train(base, tmp_path / str(margin), {HINGE: {"margin": margin}})[0] for margin in (999.0, 1001.0)]
    assert losses == pytest.approx([first - 1, first + 1])
    with pytest.raises(TrainingError, match="hinge has no reference model: leave reference out"):
        train(base, tmp_path / "with", "hinge", reference_path=base)


def test_what_the_decorator_says_holds_for_the_path_too() -> None:
    assert not ObjectiveSpec(HINGE).plugin().needs_reference
    assert ObjectiveSpec(f"{__name__}:ipo").plugin().needs_reference


def test_the_loss_of_a_step_is_the_mean_over_preferences_where_the_objective_says_so(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pairs, _ = train(base, tmp_path, {HINGE: {"margin": 1000.0}})
    monkeypatch.setitem(OBJECTIVES.items, "hinge", ObjectiveSpec("hinge").plugin())
    objective(needs_reference=False, averages="preferences")(hinge)
    by_preferences, _ = train(base, tmp_path / "other", {"hinge": {"margin": 1000.0}})
    assert by_preferences == pytest.approx(by_pairs)  # each preference here is one pair
    several = {
        name: fit_preferences(
            random_preferences(4, completions=3), model_path=base, out_dir=tmp_path / name, work_dir=tmp_path / "w",
            objective={given: {"margin": 1000.0}}, max_steps=1,
        ).loss_first
        for name, given in {"preferences": "hinge", "pairs": f"{__name__}:undecorated"}.items()
    }  # fmt: skip
    assert several["preferences"] > 2 * several["pairs"]


def undecorated(pairs: CompletionPairs, *, margin: float = 1.0) -> torch.Tensor:
    return torch.relu(margin - (pairs.better - pairs.worse))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dpoo", r"unknown objective 'dpoo' \(did you mean 'dpo'\?\); valid: dpo, .*rrhf, rso, or 'pkg.module:"),
        ({"dpo": {"gamma": 1.0}}, r"objective 'dpo' has no option 'gamma'; valid options: beta=0.1"),
        ({"dpo": {"beta": -1.0}}, r"option 'beta' of objective 'dpo': -1.0 is not valid"),
        ({"dpo": {}, "rso": {}}, r"is none; write a name, or \{name: \{option: value\}\}"),
        ({f"{__name__}:ipo": {}}, r"needs the option 'tau'"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_before_anything_is_loaded(given: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        check_names(configs.load({**CONFIG, "preference": {"objective": given}}))


def test_the_configs_beta_is_for_those_that_have_one() -> None:
    assert ObjectiveSpec.of("dpo", beta=0.3).options == {"beta": 0.3}
    assert ObjectiveSpec.of({"dpo": {"beta": 0.5}}, beta=0.3).options == {"beta": 0.5}
    assert ObjectiveSpec.of("rrhf", beta=0.3).options == {}
