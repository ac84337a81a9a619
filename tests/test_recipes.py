"""Every recipe loads and plans, and of a set that has every switch a small whole round is run on the tiny model."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import star_rft
from star_rft import config as configs
from star_rft.build.dry_run import preview
from star_rft.ledger import Ledger
from star_rft.recipes import recipe_files, row, rule_text
from star_rft.report import tables
from tests.paths import ROOT
from tests.scorers.conftest import save_reward_model
from tests.small_models import copy_of_tiny
from tests.small_runs import FEW_PROBLEMS, call, outcome, write_config
from tests.tiers import fast_only

RECIPES = {path.stem: path for path in recipe_files()}
DATA = {
    "train": {"source": "word_problems", "options": {"n": 12, "seed": 1, "steps": [1, 3]}},
    "dev": {"source": "word_problems", "options": {"n": 6, "seed": 2, "steps": [1, 2]}},
}
PROMPT = {"template": "Question: {question}\nAnswer:", "completion_prefix": " "}
FIT = {"max_steps": 2, "batch_size": 4, "micro_batch_size": 4}
# Together they have every switch that any recipe has; the first has half of them.
RUN = ["v_star", "self_rewarding", "b_star", "llama3_rs_dpo", "star_addition", "rft_pooled", "r1_cold_start", "rso"]
RUN += ["smollm2_rft", "dart_prop2diff", "rrhf", "best_of_n", "dart_uniform", "smollm2_code", "star"]
SECTIONS = ["sample", "budget", "temperature_search", "rationalize", "scorer", "select", "train", "preference"]
SECTIONS += ["warm_start"]
EVAL = {"n": 2, "k": [1, 2], "max_tokens": 48, "greedy": False, "kl_traces": 0}


# The tiny model knows no scale from 0 to 5, but it writes numbers.
JUDGE = {"template": "Question: {question} {answer}\nAnswer:", "pattern": r"(\d)", "highest": 9.0, "max_tokens": 48}


def miniature(config: configs.Config, folder: Path) -> dict[str, Any]:
    """Return the overrides that make a recipe small; whatever it switches stays as it is."""
    sample, warm_start = config.sample, config.warm_start is not None
    changes: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "model.name": "tiny",
        "model.from_scratch": False,  # two steps teach random weights nothing
        "verifier.name": "math",
        "data": DATA,
        "prompt": PROMPT,
        "verifier.workers": 1,
        "rounds": min(config.rounds, 1),
        "sample.n": min(sample.n, 4),
        "sample.max_tokens": 64,
        "sample.unit": 64,
        "sample.batch_size": 16,
        "sample.models": [
            name if name == "policy" else copy_of_tiny(folder, index) for index, name in enumerate(sample.models)
        ],
        "eval": EVAL,
    }
    changes |= {"sample.problems": 8} if sample.problems else {}
    changes |= (
        {"temperature_search.temperatures": [0.7, 1.1], "temperature_search.problems": 4, "temperature_search.n": 3}
        if config.temperature_search
        else {}
    )
    for section in ("train", "preference") if config.rounds else ():
        changes |= {f"{section}.{key}": v for key, v in FIT.items()} if getattr(config, section) is not None else {}
    changes |= (
        {f"warm_start.{key}": value for key, value in FIT.items()} | {"warm_start.data": None} if warm_start else {}
    )
    if config.scorer is not None and config.scorer.name == "judge":
        changes["scorer.options"] = JUDGE
    elif config.scorer is not None:
        changes["scorer.model"] = str(save_reward_model(folder / "reward_model"))
    return changes


def traces(folder: Path, query: str) -> list[tuple[Any, ...]]:
    return Ledger(folder / "run").connect().execute(query).fetchall()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name: str) -> None:
    config = configs.load(RECIPES[name])
    assert config.name == name
    shown = row(config.model_dump(mode="json", by_alias=True))
    assert shown.sampling.startswith("n=")
    if name not in ("quickstart", "smollm2_code", "smollm2_gsm8k", "smollm2_rft"):
        assert config.about is not None
        assert config.about.differences
        assert shown.paper


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("correct", "correct"),
        ({"pairs": {}}, "pairs"),
        ({"cap": 4}, "cap 4"),
        ({"cap": {"limit": 1, "prefer": "best"}}, "cap 1, prefer best"),
    ],
)
def test_a_rule_is_shown_as_a_short_text_in_every_form_that_a_config_may_give_it(rule: Any, text: str) -> None:
    assert rule_text(rule) == text


def test_the_page_shows_recipes_and_rules_as_they_are() -> None:
    """After a change: python scripts/recipes_table.py"""
    spec = importlib.util.spec_from_file_location("recipes_table", ROOT / "scripts" / "recipes_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert script.rewritten(page) == page


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_planned(name: str, tmp_path: Path) -> None:
    small = configs.load(RECIPES[name], miniature(configs.load(RECIPES[name]), tmp_path))
    plan = preview(small)
    assert plan.samples_a_round == most_samples(small)


def most_samples(small: configs.Config) -> int:
    """Return how many samples a round of a miniature draws if nothing is solved without a hint."""
    hints = small.rationalize.n if small.rationalize else 0
    probes = 2 * 4 * 3 if small.temperature_search else 0
    return (small.sample.problems or 12) * (small.sample.n * len(small.sample.models) + hints) + probes


def switches(value: Any, name: str) -> Iterator[str]:
    """Yield what a part of a config switches: names and yes or no as they are, of numbers and lists only their kind."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from switches(below, f"{name}.{key}")
    elif isinstance(value, list):
        yield f"{name}: a list"
        for below in value:
            yield from switches(below, name)
    elif isinstance(value, bool | str) or value is None:
        yield f"{name}: {value}"
    else:
        yield f"{name}: a number"


def test_the_recipes_that_are_run_have_every_switch(tmp_path: Path) -> None:
    found: dict[str, set[str]] = {}
    for name, path in RECIPES.items():
        small = configs.load(path, miniature(configs.load(path), tmp_path)).model_dump(mode="json", by_alias=True)
        found[name] = {switch for section in SECTIONS for switch in switches(small[section], section)}
    assert set().union(*found.values()) == set().union(*(found[name] for name in RUN))


@pytest.mark.parametrize("name", fast_only(RUN, RUN[0]))
def test_a_recipe_runs_one_round(name: str, tmp_path: Path) -> None:
    config = configs.load(RECIPES[name])
    reports = list(star_rft.run(RECIPES[name], miniature(config, tmp_path)))
    assert [report.round for report in reports] == list(range(min(config.rounds, 1) + 1))
    if config.rounds:
        _holds(config, reports[-1], tmp_path)
        said = " ".join(tables.verdict_lines(reports))
        assert ("with a hint" in said) == (config.rationalize is not None)
        assert ("balance score" in said) == (config.temperature_search is not None)


def _holds(config: configs.Config, report: star_rft.RoundReport, folder: Path) -> None:
    """What its switches promise is to be seen in the run folder."""
    run = folder / "run"
    assert (run / "rounds/001/checkpoint/model.safetensors").exists()
    assert report.held_out is not None
    statuses = dict(
        traces(
            folder, "select status, count(*) from selection join traces using (sample_id) where is_selected group by 1"
        )
    )
    assert set(statuses) <= {"correct"} or config.train is None or config.scorer is not None
    asked = traces(folder, "select count(distinct problem_id) from samples where split = 'train' and not hinted")
    prompts = 8 if config.sample.problems else 12
    assert asked == [(prompts,)]
    assert report.problems_sampled == prompts
    drawn = traces(folder, "select count(*) from samples where split = 'train' and not hinted group by model")
    assert drawn == [(prompts * min(config.sample.n, 4),)] * len(config.sample.models)
    assert (report.hinted > 0) == (config.rationalize is not None)
    assert (report.temperature_search is not None) == (config.temperature_search is not None)
    assert (run / "rounds/001/verifier").exists() == (
        config.preference is not None and config.preference.makes == "verifier"
    )
    if config.preference is not None:
        assert traces(folder, "select count(*) > 0 from preferences")[0][0]
    if config.train is not None and config.train.optimizer == "continue":
        assert (run / "rounds/001/checkpoint/optimizer.pt").exists()


@pytest.mark.full
def test_the_optimizer_and_the_steps_go_on_from_round_to_round(tmp_path: Path) -> None:
    changes: Mapping[str, Any] = {
        **miniature(configs.load(RECIPES["b_star"]), tmp_path),
        "rounds": 2,
        "warm_start": None,
        "train.step_growth": 2.0,
    }
    list(star_rft.run(RECIPES["b_star"], changes))
    steps = [
        (tmp_path / f"run/rounds/{number:03d}/checkpoint/fit.json").read_text().count('"steps": ' + str(2**number))
        for number in (1, 2)
    ]
    assert steps == [1, 1]


@pytest.mark.full
def test_a_run_stage_by_stage_equals_the_whole_run(tmp_path: Path) -> None:
    """Hints, pooled models, scores, a verifier and comparisons resume like everything else."""
    changes: dict[str, Any] = {
        "rounds": 1,
        "data": FEW_PROBLEMS,
        "eval": EVAL,
        "sample": {"n": 3, "temperature": [0.7, 1.2], "models": ["policy", "tiny"], "max_tokens": 64, "batch_size": 8},
        "rationalize": {"n": 2},
        "scorer": {"name": "majority"},
        "temperature_search": {"temperatures": [0.7, 1.1], "problems": 3, "n": 2, "target": 2},
        "select": {"rules": ["correct", {"dedup": "equations"}, {"pairs": "correct_incorrect"}, {"cap": 1}]},
        "train": FIT | {"optimizer": "continue", "lr": 1e-4},
        "preference": FIT | {"objective": "dpo", "lr": 1e-5},
    }
    whole, parts = (write_config(folder, **changes) for folder in (tmp_path / "whole", tmp_path / "parts"))
    assert call("run", str(whole), "-q", cwd=tmp_path).returncode == 0
    for stage in ("eval", "sample", "select", "train", "eval"):
        done = call(stage, str(parts), "-q", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "whole" / "run") == outcome(tmp_path / "parts" / "run")
