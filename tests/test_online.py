"""The on-ramp to online training: examples/grpo.py is run, and docs/online.md says what it does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import star_rft
from star_rft.build.dry_run import TINY_PROMPT
from star_rft.data.prompts import Prompter
from star_rft.models import ASSETS, load_tokenizer
from tests.docs.pages import blocks, missing
from tests.paths import ROOT


@pytest.fixture(scope="module")
def grpo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_grpo", ROOT / "examples" / "grpo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def change(printed: str, name: str) -> tuple[float, float, float]:
    """Return the change of a figure with its interval, as the example prints it."""
    (found,) = re.findall(rf"^{name}: .* change (\S+) \[(\S+), (\S+)\]$", printed, re.MULTILINE)
    value, low, high = map(float, found)
    return value, low, high


def test_prompts_are_those_of_the_offline_rounds(grpo: ModuleType) -> None:
    tokenizer = load_tokenizer(ASSETS / "tiny")
    (problem,) = star_rft.load_problems("word_problems", options={"n": 1})
    offline = Prompter(tokenizer, template=TINY_PROMPT["template"]).text(problem.prompt)
    ids = tokenizer(offline, add_special_tokens=False)["input_ids"]
    assert tokenizer(grpo.prompt(problem))["input_ids"] == ids  # as TRL tokenises a prompt that is a string


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_one_step_of_the_example_runs_and_leaves_a_model(
    grpo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grpo.main(["--steps", "1", "--prompts", "1", "--held-out", "2", "--out", str(tmp_path / "out")])
    printed = capfd.readouterr().out
    (shown,) = (block.content for block in blocks(ROOT / "docs" / "online.md") if block.language == "text")
    assert missing(shown, printed) == []
    before, after = load_tokenizer(ASSETS / "tiny"), load_tokenizer(tmp_path / "out")
    assert (after.eos_token_id, after.pad_token_id) == (before.eos_token_id, before.pad_token_id) == (2, 0)
    assert after("a 5")["input_ids"] == before("a 5")["input_ids"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_few_steps_of_it_improve_the_held_out_accuracy_beyond_its_interval(
    grpo: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    grpo.main(["--steps", "10"])
    printed = capfd.readouterr().out
    for name in ("greedy accuracy", "pass@1"):
        value, low, _ = change(printed, name)
        assert low > 0.05, printed
        assert value > 0.1, printed
    (rewards,) = re.findall(r"steps: (\S+) -> (\S+)$", printed, re.MULTILINE)
    assert float(rewards[1]) > float(rewards[0]), printed
