"""`star-rft run --seeds`: a run each, shared samples of round 1, one comparison over problems and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from star_rft.cli.app import app
from star_rft.ledger import Ledger
from tests.small_runs import MINIATURE


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(MINIATURE | {"name": "small", "rounds": 1, "run_dir": str(tmp_path / "small")}))
    return str(file)


def called(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["run", *arguments])


def test_seeds_share_the_samples_of_round_1_and_are_compared_with_the_start(config: str, tmp_path: Path) -> None:
    done = called(config, "--seeds", "0,3", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(model["rounds"], model["seeds"]) for model in found["models"]] == [([0], [0]), ([1, 1], [0, 3])]
    first, other = (_drawn(tmp_path / f"small-seed{seed}") for seed in (0, 3))
    assert first == other
    assert len(first) > 0
    assert called(config, "--seeds", "0,3", "--json", "--quiet").stdout == done.stdout  # the same command resumes
    refused = called(config, "--seeds", "0,3", "--own-samples", "--quiet")
    assert "was begun with the samples of" in str(refused.exception)


def test_own_samples_are_drawn_with_the_seed_of_each_run(config: str, tmp_path: Path) -> None:
    done = called(config, "--seeds", "0,3", "--own-samples", "--json", "--quiet")
    assert [model["seeds"] for model in json.loads(done.stdout)["models"]] == [[0, 3], [0, 3]]
    first, other = (_drawn(tmp_path / f"small-seed{seed}") for seed in (0, 3))
    assert not {seed for _, seed, _ in first} & {seed for _, seed, _ in other}


def _drawn(folder: Path) -> list[tuple[str, int, str]]:
    """Return (sample id, seed, text) of round 1: the id alone does not tell one draw from another."""
    query = "select sample_id, seed, text from samples where round = 1 and split = 'train' order by sample_id"
    return Ledger(folder).connect().sql(query).fetchall()


@pytest.mark.parametrize("seeds", ["0", "1,1", "a,b", "0,-1", ""])
def test_seeds_that_cannot_be_meant_are_refused(config: str, seeds: str) -> None:
    assert "must be two or more different whole numbers" in str(called(config, "--seeds", seeds).exception)


def test_own_samples_without_seeds_is_refused(config: str) -> None:
    assert "--own-samples goes with --seeds" in str(called(config, "--own-samples").exception)


def test_a_dry_run_of_seeds_is_one_json_document_and_samples_nothing(config: str, tmp_path: Path) -> None:
    done = called(config, "--seeds", "0,3", "--dry-run", "--json")
    assert [plan["rounds"] for plan in json.loads(done.stdout)] == [1, 1]
    assert not (tmp_path / "small-seed0").exists()
