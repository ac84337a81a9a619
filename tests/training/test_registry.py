"""Preference objectives as plug-ins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from star_rft import config as configs
from star_rft.build import check_names
from star_rft.build.training import objective_of
from star_rft.errors import TrainingError, UserError
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
        ({"dpo": {}, "rso": {}}, r"preference\.objective: .* names no objective; write a name, or \{name: "),
        ({"dpo": None}, r"preference\.objective: .* names no objective"),
        ({f"{__name__}:ipo": {}}, r"needs the option 'tau'"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_before_anything_is_loaded(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_names(configs.load({**CONFIG, "preference": {"objective": given}}))


def test_the_file_and_the_key_are_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, "preference": {"objective": "dpoo"}}))
    with pytest.raises(
        TrainingError, match=rf"{re.escape(str(file))}: preference\.objective: unknown objective 'dpoo'"
    ):
        check_names(configs.load(file))


def objective_with(**section: Any) -> ObjectiveSpec:
    return objective_of(configs.load({**CONFIG, "preference": section}))


def test_a_beta_of_the_config_is_for_objectives_that_have_one_and_given_once() -> None:
    assert objective_with(beta=0.3).options == {"beta": 0.3}
    assert objective_with().options == {}
    assert objective_with(objective={"dpo": {"beta": 0.5}}).options == {"beta": 0.5}
    with pytest.raises(TrainingError, match="option 'beta' of objective 'dpo' is given twice"):
        objective_with(objective={"dpo": {"beta": 0.5}}, beta=0.3)
    with pytest.raises(TrainingError, match="objective 'rrhf' has no option 'beta'"):
        objective_with(objective="rrhf", beta=0.3)


def test_options_that_mean_the_same_are_the_same_training() -> None:
    specs = [
        ObjectiveSpec("dpo"),
        ObjectiveSpec("dpo", {"beta": 0.1}),
        ObjectiveSpec("rso"),
        ObjectiveSpec("dpo", {"beta": 1}),
    ]
    contents = [spec.content() for spec in specs]
    assert contents[0] == contents[1]
    assert contents[3] == ObjectiveSpec("dpo", {"beta": 1.0}).content()
    assert contents[0] not in contents[2:]


def averaged(pairs: CompletionPairs) -> torch.Tensor:
    return hinge(pairs).mean()


def test_an_objective_that_takes_a_mean_itself_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"returned a tensor of shape \(\) for \d+ pairs: it returns the loss of each"
    ):
        train(base, tmp_path, f"{__name__}:averaged")


def test_what_the_decorator_is_given_is_checked() -> None:
    with pytest.raises(TrainingError, match="averages is 'pair'; valid: pairs, preferences"):
        objective(averages="pair")(averaged)  # type: ignore[call-overload]


def test_launched_processes_must_be_able_to_import_an_objective() -> None:
    launched = {**CONFIG, "launch": {"processes": 2}}
    objective_of(configs.load({**launched, "preference": {"objective": HINGE}}))
    with pytest.raises(TrainingError, match="'hinge' is registered in this process only"):
        objective_of(configs.load({**launched, "preference": {"objective": "hinge"}}))
