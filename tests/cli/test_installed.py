"""The program as a user's shell meets it: `python -m star_rft`, its version, `-h`, completion."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from star_rft import __version__
from star_rft.cli import app

SHELLS = {"bash": "complete -o default -F", "zsh": "#compdef star-rft", "fish": "complete --command star-rft"}


def paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words that lead to each command, the program itself first."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, (*path, name))


PATHS = [" ".join(path) for path in paths(typer.main.get_command(app))]


def test_the_commands_of_commands_are_found() -> None:
    assert {"", "run", "best-of-n", "recipes", "recipes show"} <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_h_is_help_on_the_program_and_on_every_command(path: str) -> None:
    short, long = (CliRunner().invoke(app, [*path.split(), option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    assert short.output.startswith(f"Usage: star-rft {path}".rstrip())
    assert "-h, --help" in short.output


def test_the_module_is_the_program_and_tells_the_versions_without_importing_the_packages() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "star_rft", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    assert done.stdout == f"star-rft {__version__} (python {'.'.join(map(str, sys.version_info[:3]))}, {others})\n"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "star_rft.cli" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "trl", "numpy", "pyarrow"})


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_completion_for_each_shell(shell: str) -> None:
    shown = CliRunner(env={"_STAR_RFT_COMPLETE": f"source_{shell}"}).invoke(app, prog_name="star-rft")
    assert shown.exit_code == 0
    assert SHELLS[shell] in shown.output


def test_a_bash_that_installs_the_completion_then_completes_commands_and_options(tmp_path: Path) -> None:
    program = tmp_path / "star-rft"  # as pip would install it, also where the package is only on the path
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m star_rft "$@"\n')
    program.chmod(0o755)
    asks = r"""
    star-rft --install-completion && . ~/.bashrc || exit
    function=$(complete -p star-rft | sed 's/.*-F \([^ ]*\).*/\1/')
    COMP_CWORD=1; COMP_WORDS=(star-rft ver); $function star-rft; echo ${COMPREPLY[*]}
    COMP_CWORD=3; COMP_WORDS=(star-rft recipes show --h); $function star-rft; echo ${COMPREPLY[*]}
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"HOME": str(tmp_path), "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["bash", "-c", asks], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[2:] == ["verify verifiers", "--help"], done
