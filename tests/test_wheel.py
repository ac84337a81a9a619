"""The built wheel works in an empty folder, without the repository, its constraints or the test packages.

It is installed into an environment that holds what the wheel declares as its requirements, taken from the environment
of the tests, and nothing else of it.
"""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from tests.clones import clone_to
from tests.requirements import requirements

pytestmark = pytest.mark.slow

PACKAGES = ("star_rft", "verifiers")
SMALL = ("rounds=1", "data.train.options.n=24", "data.dev.options.n=8")
# Imports every module, and prints as JSON where each lies and which cannot be imported.
IMPORTS = """
import importlib, json, pkgutil, sys
where, failed = {}, {}
for package in sys.argv[1:]:
    names = [module.name for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")]
    for name in [package, *(name for name in names if not name.endswith("__main__"))]:
        try:
            where[name] = importlib.import_module(name).__file__
        except Exception as error:
            failed[name] = repr(error)
print(json.dumps([where, failed]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a clone: a build in the checkout would take over files that an earlier build left there."""
    source = clone_to(tmp_path_factory.mktemp("source") / "star-rft")
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    (built,) = out.glob("star_rft-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that holds the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    for needed in requirements(metadata(wheel).get_all("Requires-Dist") or []):
        link(needed, packages)
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    run(*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    return folder / "bin"


def link(needed: Distribution, packages: Path) -> None:
    """Make what a distribution has installed importable from another environment."""
    for name in {file.parts[0] for file in needed.files or []} - {"..", "__pycache__"}:
        if not (packages / name).exists():
            (packages / name).symlink_to(Path(str(needed.locate_file(name))))


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command that must succeed, without what this environment adds to imports, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_every_file_of_both_packages_and_no_other(wheel: Path, tmp_path: Path) -> None:
    source = clone_to(tmp_path / "star-rft")
    expected = {file.relative_to(source).as_posix() for package in PACKAGES for file in files(source / package)}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {"star_rft/configs/quickstart.yaml", "star_rft/assets/tiny/model.safetensors", "star_rft/py.typed"} <= held


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, also those that lie behind a link to a folder."""
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent) / name for name in names)


def test_what_an_index_shows_of_the_package_is_complete(wheel: Path) -> None:
    shown = metadata(wheel)
    assert shown["Author"] == "The star-rft authors"
    assert shown["License-Expression"] == "Apache-2.0"
    assert shown["Description-Content-Type"] == "text/markdown"
    urls = dict(text.split(", ", 1) for text in shown.get_all("Project-URL") or [])
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues"}
    pythons = {f"Programming Language :: Python :: {version}" for version in ("3.11", "3.12", "3.13")}
    assert pythons <= set(shown.get_all("Classifier") or [])
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())


def test_every_module_is_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where, failed = json.loads(run(str(installed / "python"), "-c", IMPORTS, *PACKAGES, cwd=tmp_path))
    assert failed == {}
    assert len(where) > 200
    packages = installed.parent / "lib"
    assert [name for name, file in where.items() if not Path(file).is_relative_to(packages)] == []


def test_the_quickstart_and_the_commands_work_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    command, python = str(installed / "star-rft"), str(installed / "python")
    said = run(command, "run", "quickstart", *SMALL, cwd=tmp_path)
    assert "Did it get better?" in said
    assert "Report: runs/quickstart/report.html" in said
    assert "report.html" in run(command, "report", "runs/quickstart", cwd=tmp_path)
    assert "Scores by round" in (tmp_path / "runs/quickstart/report.html").read_text()
    assert "smollm2_rft" in run(command, "recipes", cwd=tmp_path)
    assert "star-rft view runs/quickstart" in run(command, "view", "--help", cwd=tmp_path)
    assert "audit" in run(python, "-m", "verifiers", "--help", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
