"""Reading: every format gives the same rows, and every fault names its place."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_rft.data import DataError, load
from star_rft.types import Problem

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(103)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(source: Any, **options: Any) -> list[Problem]:
    return load(source, verifier="numeric", **options)


def test_every_format_gives_the_same_problems(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "wrapped.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    (tmp_path / "lines.json").write_text(lines(ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    with pa.output_stream(str(tmp_path / "a.jsonl.zst"), compression="zstd") as out:
        out.write(lines(ROWS).encode())
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 7
    expected = read(ROWS)
    for file in files:
        assert read(file) == expected, file.name


def test_the_last_partial_batch_is_kept(tmp_path: Path) -> None:
    # FIELD.md, defect 2: 103 rows in groups of 10 are 103 problems, and the last is the last.
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=10)
    problems = read(tmp_path / "a.parquet")
    assert len(problems) == 103
    assert problems[-1].prompt == "What is 102 + 102?"


def test_a_last_line_without_an_end_and_empty_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(ROWS[:1]) + "\n  \n" + json.dumps(ROWS[1]))
    assert len(read(tmp_path / "a.jsonl")) == 2


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    row = {"question": "one\u2028two\x85three", "answer": "3"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    assert read(tmp_path / "a.jsonl")[0].prompt == row["question"]


def test_a_glob_and_a_list_of_files_pool_their_rows_in_order(tmp_path: Path) -> None:
    for name, part in (("b.jsonl", ROWS[50:]), ("a.jsonl", ROWS[:50])):
        (tmp_path / name).write_text(lines(part))
    assert read(tmp_path / "*.jsonl") == read(ROWS)
    assert read([tmp_path / "a.jsonl", str(tmp_path / "b.jsonl")]) == read(ROWS)


def test_a_folder_gives_its_splits(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00002.jsonl").write_text(lines(ROWS[:60]))
    (tmp_path / "train-00001-of-00002.jsonl").write_text(lines(ROWS[60:]))
    (tmp_path / "validation.jsonl").write_text(lines(ROWS[:3]))
    assert len(read(tmp_path, split="train")) == 103
    assert len(read(tmp_path, split="dev")) == 3
    with pytest.raises(DataError, match="no file for split 'test'; there are train-00000"):
        read(tmp_path, split="test")
    with pytest.raises(DataError, match="give a split"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines(ROWS[:2]) + '{"question": "half', r"a\.jsonl:3: not JSON: Unterminated string"),
        ("a.jsonl", lines(ROWS[:2]) + "[1]\n", r"a\.jsonl:3: a row must be an object with named columns"),
        ("a.json", '[{"question": "a",}]', r"a\.json:1: not JSON"),
        ("a.json", '{"question": "a", "answer": "b"}', r"a\.json: must hold a list of rows"),
        ("a.json", "3", r"a\.json: must hold a list of rows, not int"),
        ("a.parquet", "text", r"a\.parquet: not a Parquet file"),
        ("a.jsonl.gz", "text", r"a\.jsonl\.gz: cannot be decompressed"),
        ("a.jsonl.zst", "text", r"a\.jsonl\.zst: cannot be decompressed"),
        ("a.csv", "a,b", r"a\.csv: unknown format '\.csv'; valid are \.jsonl"),
        ("a.jsonl", "", r"a\.jsonl: no problem is left"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS[:1]).encode() + b'{"question": "caf\xe9"}')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not UTF-8 text: .* at byte 17"):
        read(tmp_path / "a.jsonl")


def test_a_row_of_a_parquet_file_and_of_a_list_is_named(tmp_path: Path) -> None:
    rows = [*ROWS[:2], {"question": "", "answer": "3"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet\[2\]: the prompt is empty"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row\[2\]: the prompt is empty"):
        read(rows)


def test_no_such_file_no_such_source_and_a_split_of_a_file_fail(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="no file matches"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(DataError, match=r"no source 'gsm9k': .* word_problems, addition, python_tasks, gsm8k, math"):
        read("gsm9k")
    (tmp_path / "a.jsonl").write_text(lines(ROWS))
    with pytest.raises(DataError, match="a file has no split 'test'"):
        read(tmp_path / "a.jsonl", split="test")
    with pytest.raises(DataError, match="takes no config_name; it is 'main'"):
        read(str(tmp_path / "a.jsonl"), config_name="main")


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=100
    )
    return done.stdout


def test_a_hub_that_cannot_be_reached_is_one_line_that_offers_a_path(tmp_path: Path) -> None:
    code = """
from star_rft.data import DataError, load
try:
    load("gsm8k", verifier="numeric", split="test")
except DataError as error:
    print(error)
"""
    message = run_python(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert message.count("\n") == 1
    assert message.startswith("openai/gsm8k: cannot be loaded from the Hugging Face hub: ")
    assert "A path to a .jsonl" in message


def test_reading_a_file_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(ROWS))
    code = f"""
import sys
from star_rft.data import load
load({str(tmp_path / "a.jsonl")!r}, verifier="numeric")
print(sorted({{"torch", "datasets", "transformers", "pyarrow", "numpy"}} & set(sys.modules)))
"""
    assert run_python(code).strip() == "[]"


def test_a_missing_file_is_missing_whatever_split_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "absent.jsonl", verifier="math", split="train")
