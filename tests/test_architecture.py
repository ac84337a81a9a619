"""The house rules that imports can show."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_only_build_and_the_two_front_doors_know_configs() -> None:
    """Inside, functions take flat arguments: a section of the config is known to what builds from it only."""
    package = ROOT / "star_rft"
    # The library's front door, and what writes or compares runs' configs.
    may = ("__init__.py", "handle.py", "fork.py", "seeds.py", "controls.py", "compare.py")
    above = (package / "cli", package / "config", package / "build")
    for path in package.rglob("*.py"):
        if path.parent not in above and path.name not in may:
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
    assert len((ROOT / "star_rft" / "loop.py").read_text().splitlines()) <= 120


def test_a_file_that_a_docstring_or_comment_names_is_there() -> None:
    """`probe.py` is a file of the same folder or of one above; `hf/probe.py` ends so somewhere in the tree."""
    files = [
        path
        for part in ("star_rft", "verifiers", "benchmarks", "scripts", "tests")
        for path in (ROOT / part).rglob("*.py")
    ]
    known = {path.relative_to(ROOT).as_posix() for path in files}
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if path.relative_to(ROOT).parts[0] in ("star_rft", "verifiers")
        for name in re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.py)`", path.read_text())
        if not any(f"/{one}".endswith(f"/{name}") for one in known)
    ]
    assert not missing
