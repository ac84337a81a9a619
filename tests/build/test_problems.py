from __future__ import annotations

from pathlib import Path

import pytest

from star_rft import config as configs
from star_rft.build.problems import load_all
from star_rft.data.contamination import ContaminationError
from tests.jsonl import write_jsonl
from tests.small_runs import MINIATURE


@pytest.mark.parametrize("pattern", ["part?.jsonl", "part[12].jsonl", "part*.jsonl"])
def test_a_glob_names_files_which_have_no_splits(tmp_path: Path, pattern: str) -> None:
    for part in (1, 2):
        rows = [{"question": f"What is {part} + {n}?", "answer": str(part + n)} for n in range(3)]
        write_jsonl(tmp_path / f"part{part}.jsonl", rows)
    config = configs.load(MINIATURE, {"data.train": str(tmp_path / pattern)})
    problems, _ = load_all(config, {})
    assert len(problems["train"]) == 6


def test_a_held_out_problem_in_the_warm_start_stops_the_run_or_is_left_out(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("dev", 10), ("warm", 12)):
        rows = [
            {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}
            for n in range(first, first + 3)
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    sources = {f"data.{split}": str(tmp_path / f"{split}.jsonl") for split in ("train", "dev")}
    warm = {"warm_start.data": str(tmp_path / "warm.jsonl"), "warm_start.lr": 1e-4}
    with pytest.raises(ContaminationError, match=r"1 of 3 held-out problems.*What is 12 \+ 1"):
        load_all(configs.load(MINIATURE, sources | warm), {})
    problems, data = load_all(configs.load(MINIATURE, sources | warm | {"data.contamination": "drop"}), {})
    assert [problem.prompt for problem in data] == ["What is 13 + 1?", "What is 14 + 1?"]
    assert len(problems["train"]) == len(problems["dev"]) == 3
