"""Examples and documentation use the public names only; a benchmark that needs more says what for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import star_rft
import verifiers
from tests.docs.pages import PAGES, Block, blocks
from tests.paths import ROOT

PACKAGES = {"star_rft": {*star_rft.__all__, "__version__"}, "verifiers": set(verifiers.__all__)}
# CONTRIBUTING.md shows a rule as it would be written inside the package.
PROGRAMS = [block for page in PAGES if page.name != "CONTRIBUTING.md" for block in blocks(page)]
PROGRAMS = [block for block in PROGRAMS if block.language == "python" and block.kind != "from"]

# What a benchmark imports besides public names: the thing that it measures, or what makes its input. Its docstring says
# which. A benchmark that is not here uses public names only.
INTERNALS = {
    "architecture_checks": "star_rft.engines star_rft.models star_rft.training star_rft.types",
    "architecture_families": "star_rft.models",
    "bench_rows": "star_rft.models",
    "budget": "star_rft.frontier",
    "code_audit": "star_rft.data",
    "export": "star_rft.data star_rft.runs",
    "label_errors": "star_rft.frontier star_rft.ledger",
    "ledger_of_votes": "star_rft.files star_rft.ledger",
    "ledger_scale": (
        "star_rft.files star_rft.frontier star_rft.ledger star_rft.report star_rft.runs star_rft.selection"
        " star_rft.stages"
    ),
    "looking": "star_rft.report star_rft.viewer",
    "looking_run": (
        "star_rft.evaluation star_rft.files star_rft.frontier star_rft.ledger star_rft.runs star_rft.selection"
    ),
    "loop_overhead": "star_rft.build star_rft.loop star_rft.models star_rft.training",
    "plan": "star_rft.frontier star_rft.ledger star_rft.progress star_rft.runs star_rft.sampling",
    "roofline": "star_rft.engines star_rft.models star_rft.runs",
    "run_all": "star_rft.files star_rft.runs",
    "sampler": "star_rft.engines star_rft.models",
    "selection": "star_rft.files star_rft.ledger star_rft.selection",
    "train": "star_rft.models star_rft.training star_rft.types",
    "train_memory": "star_rft.models star_rft.training star_rft.types",
    "train_processes": "star_rft.models star_rft.training",
    "verify_steps": "verifiers.checks",
}
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def used(code: str) -> Iterator[str]:
    """Yield what code imports of the packages, and the names that it takes from them: `star_rft.ledger.Ledger`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if "." in alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def internal(code: str) -> set[str]:
    """Return what code uses of the packages and is no public name, by the first two parts of its path."""
    paths = {tuple(path.split(".")) for path in used(code)}
    return {
        ".".join(path[:2])
        for path in paths
        if path[0] in PACKAGES and not (len(path) == 2 and path[1] in PACKAGES[path[0]])
    }


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_an_example_uses_public_names_only(path: Path) -> None:
    assert internal(path.read_text()) == set()


def test_programs_of_the_documentation_use_public_names_only() -> None:
    def of(block: Block) -> set[str]:
        return internal(block.content)

    assert len(PROGRAMS) > 10
    assert {block.where: found for block in PROGRAMS if (found := of(block))} == {}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_says_what_it_imports_besides_public_names(path: Path) -> None:
    code = path.read_text()
    found = internal(code)
    assert found == set(INTERNALS.get(path.stem, "").split())
    (told,) = re.findall(r"^Imports ([^:]*):", ast.get_docstring(ast.parse(code)) or "", re.MULTILINE) or [""]
    assert set(re.split(r",\s+", told)) - {""} == found


def test_internals_are_found_however_they_are_imported() -> None:
    code = (
        "import star_rft\nimport star_rft.loop\nfrom star_rft import Run, build\nfrom star_rft.ledger import Ledger\n"
    )
    assert internal(code + "star_rft.open_run(star_rft.config)") == {
        *("star_rft.build", "star_rft.config", "star_rft.ledger", "star_rft.loop")
    }
