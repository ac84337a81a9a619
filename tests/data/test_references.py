"""References that the verifier cannot read are found when the data loads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import verifiers
from star_rft import config as configs
from star_rft.build.dry_run import preview
from star_rft.config import ConfigError
from star_rft.data import DataError, check_references
from star_rft.types import Problem
from tests.paths import ROOT


def problems(references: list[Any]) -> list[Problem]:
    return [Problem(str(i), f"Question {i}?", reference, "math") for i, reference in enumerate(references)]


def test_a_few_bad_references_are_a_warning_that_shows_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_references(problems([*"123456789", *"123456789", "", "7"]), verifiers.get("numeric"))
    assert "1 of 20 references are nothing that verifier 'numeric' can read (problem 18: " in caplog.text


def test_many_bad_references_are_an_error_that_names_the_way_out() -> None:
    tests = {"tests": "assert f(1)", "entry_point": "f"}
    with pytest.raises(DataError, match=r"3 of 3 references.*verifier 'math'.*Set verifier.name .*code for programs"):
        check_references(problems([tests] * 3), verifiers.get("math"))
    check_references(problems([tests] * 3), verifiers.get("code"))


def test_a_run_on_programs_with_the_math_verifier_stops_before_it_begins(tmp_path: Path) -> None:
    data = tmp_path / "humaneval.jsonl"
    data.write_text('{"prompt": "def f(x):\\n", "test": "def check(c):\\n    assert c(1)", "entry_point": "f"}\n')
    config = configs.load(
        ROOT / "configs" / "quickstart.yaml",
        {"data.dev": str(data), "data.contamination": "allow"},
    )
    with pytest.raises(ConfigError, match=r"data\.dev: 1 of 1 references"):
        preview(config)
