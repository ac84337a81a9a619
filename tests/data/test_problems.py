"""Problems in a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_rft.data import DataError, load, read_problems, write_problems
from star_rft.types import Problem

REFERENCE = {"tests": "assert f(1) == 'é'", "entry_point": "f", "cases": [{"stdin": "1\n", "n": 1.5}]}


def test_problems_come_back_as_they_were_written(tmp_path: Path) -> None:
    row = {"p": "Write {f}.\n<s>", "r": REFERENCE, "s": "def f(): ...", "level": 2}
    columns = {"prompt": "p", "reference": "r", "solution": "s"}
    train = load([row], verifier="code", columns=columns)
    test = load([{"question": "1?", "answer": 1}], verifier="numeric")
    write_problems(tmp_path / "problems.parquet", {"train": train, "test": test})
    assert read_problems(tmp_path / "problems.parquet") == {"train": train, "dev": [], "test": test}
    assert train[0].reference == REFERENCE


def test_no_problems_at_all_can_be_written(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.parquet", {})
    assert read_problems(tmp_path / "problems.parquet") == {"train": [], "dev": [], "test": []}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "problems.parquet"
    good = [Problem("1", "p", "r", "exact")]
    write_problems(path, {"train": good})
    with pytest.raises(TypeError):
        write_problems(path, {"train": [Problem("2", "p", object(), "exact")]})
    with pytest.raises(pa.ArrowTypeError):
        write_problems(path, {"train": [Problem("2", 3, "r", "exact")]})  # type: ignore[arg-type]
    assert read_problems(path)["train"] == good
    assert list(tmp_path.iterdir()) == [path]


def test_another_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"a": 1}]), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: not a file of problems: its columns are a"):
        read_problems(tmp_path / "other.parquet")
