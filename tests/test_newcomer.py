"""A newcomer's path: clone, demo, report, data of one's own with init, a verifier of one's own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from star_rft.ledger import Ledger
from tests.clones import clone_to
from tests.jsonl import write_jsonl

pytestmark = pytest.mark.full

SMALL = "rounds=1 data.train.options.n=24 data.dev.options.n=8 sample.n=4 eval.n=4 eval.k=[1,4] eval.kl_traces=0"
SMALL += " train.epochs=1"
VERIFIER = '''"""Judges whether the last number of a completion is even where the reference says so."""

import re

import verifiers


@verifiers.register("parity")
def parity(completion: str, reference: str) -> bool:
    """Compare the parity of the last number with the reference: even or odd."""
    numbers = re.findall(r"\\d+", completion)
    return bool(numbers) and ("odd" if int(numbers[-1]) % 2 else "even") == reference
'''


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_to(tmp_path_factory.mktemp("newcomer") / "star-rft")


def environment(clone: Path, here: Path) -> dict[str, str]:
    """The clone's packages, not those of this checkout, and modules that lie in the current folder."""
    path = os.pathsep.join([str(clone), str(here)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def star_rft(clone: Path, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder as a person would, and expect that it works."""
    full = [sys.executable, "-m", "star_rft.cli", *arguments]
    done = subprocess.run(full, cwd=here, env=environment(clone, here), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def test_the_demo_of_a_clone_ends_with_a_report(clone: Path) -> None:
    """With this interpreter's packages: the set-up itself is what `make test` has done."""
    venv = Path(sys.prefix)
    make = ["make", "demo", f"VENV={venv}", "-o", f"{venv}/.installed", f"ARGS={SMALL}"]
    done = subprocess.run(make, cwd=clone, env=environment(clone, clone), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Did it get better?" in done.stdout
    (last,) = [line for line in done.stdout.splitlines() if line.startswith("Report: ")]
    assert "Scores by round" in (clone / last.removeprefix("Report: ")).read_text()


def test_own_data_and_a_verifier_of_ones_own(clone: Path, tmp_path: Path) -> None:
    rows = [
        {"puzzle": f"Tom has {n} pens. He buys {n % 7} more. How many pens?", "kind": ("even", "odd")[(n + n % 7) % 2]}
        for n in range(10, 50)
    ]
    write_jsonl(tmp_path / "puzzles.jsonl", rows)
    (tmp_path / "parity_check.py").write_text(VERIFIER)

    looked = star_rft(
        clone,
        tmp_path,
        "init",
        "puzzles.jsonl",
        "--verifier",
        "parity_check:parity",
        "-y",
        "--column",
        "prompt=puzzle",
        "--column",
        "reference=kind",
    )
    assert "star-rft run puzzles.yaml --dry-run" in looked.stdout
    small = ["rounds=1", "sample.n=4", "sample.unit=16", "sample.max_tokens=48", "eval.kl_traces=0", "train.epochs=1"]
    small += ["data.train.limit=24", "data.dev.limit=8", "eval.n=2", "eval.k=[1,2]", "eval.max_tokens=48"]
    command = ["run", "puzzles.yaml", *small]
    ended = star_rft(clone, tmp_path, *command)
    assert "Report: runs/puzzles/report.html" in ended.stdout
    ((verifiers,),) = (
        Ledger(tmp_path / "runs/puzzles").connect().sql("select list(distinct verifier) from verdicts").fetchall()
    )
    assert verifiers == ["parity_check:parity"]
    assert "Read what it wrote" in (tmp_path / "runs/puzzles/report.html").read_text()
