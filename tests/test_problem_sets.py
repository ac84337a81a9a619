from __future__ import annotations

import json
from pathlib import Path

import pytest

from star_rft import config as configs
from star_rft.problem_sets import load_all
from tests.runs import MINIATURE


@pytest.mark.parametrize("pattern", ["part?.jsonl", "part[12].jsonl", "part*.jsonl"])
def test_a_glob_names_files_which_have_no_splits(tmp_path: Path, pattern: str) -> None:
    for part in (1, 2):
        rows = [{"question": f"What is {part} + {n}?", "answer": str(part + n)} for n in range(3)]
        (tmp_path / f"part{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = configs.load(MINIATURE, {"data.train": str(tmp_path / pattern)})
    problems, _ = load_all(config, {})
    assert len(problems["train"]) == 6
