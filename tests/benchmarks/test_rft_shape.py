"""RFT's ablations: each arm is a fork of one run that differs in one thing."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

import star_rft
from tests.paths import ROOT
from tests.programs import benchmark

EQUATIONS = {"dedup": "equations"}


@pytest.fixture(scope="module")
def rft_shape() -> ModuleType:
    return benchmark("rft_shape")


@pytest.mark.full
def test_every_arm_is_a_run_that_may_be_forked(rft_shape: ModuleType, finished: Path, tmp_path: Path) -> None:
    source = star_rft.open_run(shutil.copytree(finished, tmp_path / "run"))
    config = star_rft.load_config(source.folder, {"select.rules": ["correct", EQUATIONS]})
    found = rft_shape.arms([1, 2, 4], config, tokens=5000, steps=7)
    assert [arm.name for arm in found] == [
        *("k=1", "k=2", "k=1 as long", "k=2 as long", "k=4", "random", "no dedup", "weights 1/|Y+|"),
        *("at most 4", "adaptive", "true steps only"),
    ]
    for place, arm in enumerate(found):
        with pytest.warns(RuntimeWarning, match="nothing was run"):
            folder = star_rft.fork(
                source, f"arm-{place}", {"select.rules": ["correct", EQUATIONS], **arm.changes}
            ).folder
        ((samples,),) = star_rft.open_run(folder).sql("select count(*) from samples where round = 1").fetchall()
        assert (samples == 0) == arm.draws, arm.name


def test_arms_keep_the_rules_of_their_run_and_programs_have_no_steps(rft_shape: ModuleType) -> None:
    config = star_rft.load_config(ROOT / "configs" / "smollm2_code.yaml")
    found = {arm.name: arm.changes for arm in rft_shape.arms([4], config, tokens=5000, steps=7)}
    rules = ["correct", {"dedup": "program"}, {"cap": 4}]
    assert config.select.rules == rules
    assert found["k=4"] == {"select.rules": [{"first_samples": 4}, *rules]}
    assert found["k=4 as long"] == {**found["k=4"], "train.max_steps": 7}
    assert found["k=16"] == {}
    assert found["no dedup"] == {"select.rules": ["correct", {"cap": 4}]}
    assert "true steps only" not in found


def test_what_was_drawn_is_counted_for_the_first_samples_of_each_question(
    rft_shape: ModuleType, finished: Path
) -> None:
    run = star_rft.open_run(finished)
    rows = run.sql(
        "select problem_id, sample_index, tokens, status = 'correct' and finish_reason = 'stop', equation_key from"
        " traces"
        " where split = 'train' and round = 1"
    ).fetchall()
    for k in (1, 4):
        kept = [row for row in rows if row[1] < k]
        correct_traces = {(problem, key) for problem, _, _, is_kept, key in kept if is_kept}
        found = rft_shape.drawn(run, k)
        assert found.tokens == sum(tokens for _, _, tokens, _, _ in kept)
        assert found.distinct == len(correct_traces) / 16
        assert found.covered == len({problem for problem, _ in correct_traces}) / 16


@pytest.mark.full
def test_an_arm_with_samples_of_its_own_trains_every_seed_on_the_same_ones(
    rft_shape: ModuleType, finished: Path, tmp_path: Path
) -> None:
    source = star_rft.open_run(shutil.copytree(finished, tmp_path / "run"))
    changes = {"sample.n": 2, "select.rules": ["correct"]}
    arm = rft_shape.Arm("few", 2, changes, draws=True)
    first, second = (rft_shape.finished_arm(source, arm, seed) for seed in (0, 1))
    query = "select text from samples where round = 1 and split = 'train' order by all"
    texts = [run.sql(query).fetchall() for run in (first, second)]
    assert texts[0] == texts[1]
    rows = [rft_shape.row(source, arm, [run]) for run in (first, second)]
    assert rows[0]["tokens"] == rows[1]["tokens"] > 0
    change = star_rft.compare([f"{source.folder}:0", first]).models[1].differences["greedy"]
    assert rows[0]["dev"]["change"] == change
    assert rft_shape.steps_of(first) > 0
    weights = [run.folder / "rounds/001/checkpoint/model.safetensors" for run in (first, second)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
