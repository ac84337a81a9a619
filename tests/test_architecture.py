"""The house rules that imports can show."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

STAGES = ("data", "samplers", "scorers", "select", "training")


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    others = tuple(f"star_rft.{other}" for other in STAGES if other != stage)
    for path in (ROOT / "star_rft" / stage).rglob("*.py"):
        offending = {name for name in imports_of(path) if name.startswith(others)}
        assert not offending, f"{path.relative_to(ROOT)} imports {offending}"


@pytest.mark.parametrize("above", ["star_rft.loop", "star_rft.build", "star_rft.cli", "star_rft.stages"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_nothing_above_it(stage: str, above: str) -> None:
    for path in (ROOT / "star_rft" / stage).rglob("*.py"):
        assert above not in imports_of(path), path.relative_to(ROOT)


def test_verifiers_stands_alone() -> None:
    for path in (ROOT / "verifiers").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in {"star_rft", "torch", "transformers"}, path.relative_to(ROOT)


def test_only_build_and_the_two_front_doors_know_configs() -> None:
    allowed = {
        "__init__.py",
        "build.py",
        "asking.py",
        "engines.py",
        "problem_sets.py",
        "preview.py",
        "bench.py",
        "fork.py",
    }
    above = (ROOT / "star_rft" / "cli", ROOT / "star_rft" / "config")
    for path in (ROOT / "star_rft").rglob("*.py"):
        if path.parent not in above and (path.name not in allowed or path.parent.name != "star_rft"):
            assert "star_rft.config" not in imports_of(path), path.relative_to(ROOT)


@pytest.mark.parametrize("module", ["verifiers", "star_rft", "star_rft.cli", "star_rft.data"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module};"
        " heavy = {'torch', 'transformers', 'trl', 'datasets', 'sympy', 'math_verify', 'duckdb'};"
        " print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_loop_and_the_single_stages_fit_on_two_screens() -> None:
    assert len((ROOT / "star_rft" / "loop.py").read_text().splitlines()) <= 100
