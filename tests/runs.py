"""Whole runs in miniature: the shipped tiny model on a handful of built-in problems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from star_rft.ledger import Ledger

MINIATURE: dict[str, Any] = {
    "name": "miniature",
    "rounds": 2,
    "model": {"name": "tiny"},
    "data": {
        "train": {"source": "word_problems", "options": {"n": 16, "seed": 1, "steps": [1, 2]}},
        "dev": {"source": "word_problems", "options": {"n": 10, "seed": 2, "steps": [1, 2]}},
    },
    "prompt": {"template": "Question: {question}\nAnswer:", "completion_prefix": " "},
    "verifier": {"name": "math", "workers": 1},
    "sample": {"n": 4, "max_tokens": 96, "unit": 16, "batch_size": 16},
    "select": {"rounds": "all"},
    "train": {"lr": 1e-3, "batch_size": 8, "epochs": 2, "save_steps": 1},
    "eval": {"n": 4, "k": [1, 4], "max_tokens": 96, "group_by": "steps"},
}


def write_config(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(MINIATURE | {"run_dir": str(folder / "run")} | changes))
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "star_rft.cli", *arguments]


def environment() -> dict[str, str]:
    """One thread: equal runs need an equal thread count, and tests share the machine."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


def outcome(run: Path) -> dict[str, Any]:
    """Everything about a finished run that must not depend on how often it was interrupted."""
    con = Ledger(run).connect()
    traces = con.sql("select * exclude (verify_seconds, part) from traces order by sample_id").fetchall()
    selection = con.sql("select * from selection order by in_round, sample_id").fetchall()
    metrics = [json.loads(path.read_text()) for path in sorted(run.glob("rounds/*/metrics.json"))]
    for round in metrics:
        round.pop("seconds")
    weights = {
        str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("rounds/*/checkpoint/*.safetensors"))
    }
    return {"traces": traces, "selection": selection, "metrics": metrics, "weights": weights}
