"""What the packages import is what they declare: an import that only the test packages bring would fail at a user's."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT
from tests.requirements import requirements

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"star_rft", "verifiers"}
# report_to takes trackers that no extra installs.
OF_THE_USER = {"wandb"}


def imported() -> dict[str, str]:
    """Return the modules of others that any of our modules imports, also inside a function, each with one that does."""
    found: dict[str, str] = {}
    for package in sorted(OURS):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                    names = [node.module]
                found |= {name.partition(".")[0]: file.relative_to(ROOT).as_posix() for name in names}
    return {name: file for name, file in found.items() if name not in OURS | sys.stdlib_module_names}


def is_installed(text: str) -> bool:
    try:
        distribution(Requirement(text).name)
    except PackageNotFoundError:
        return False
    return True


def test_every_import_is_of_a_declared_requirement_or_of_what_one_needs() -> None:
    optional = [text for extra, texts in PROJECT["optional-dependencies"].items() if extra != "dev" for text in texts]
    declared = {canonicalize_name(Requirement(text).name) for text in [*PROJECT["dependencies"], *optional]}
    present = requirements([*PROJECT["dependencies"], *filter(is_installed, optional)])
    declared |= {canonicalize_name(needed.name) for needed in present}
    owners = packages_distributions()
    undeclared = {
        name: file
        for name, file in imported().items()
        if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name]))
    }
    assert {name: file for name, file in undeclared.items() if name not in OF_THE_USER} == {}
