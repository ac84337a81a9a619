"""Readers of rows from files, folders, hub data sets and iterables; each row has its place, for error messages."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from star_rft.errors import UserError

Source: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Iterable[Mapping[str, Any]]

FORMATS = (".jsonl", ".ndjson", ".json", ".parquet")
COMPRESSIONS = (".gz", ".zst")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Names of files in a folder that hold a split, in the order in which they are tried.
SPLIT_NAMES = {
    "dev": ("dev", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val", "dev"),
}


class DataError(UserError):
    """Data that cannot be used; the text names the file, the row or column, and what is valid."""


class Row(NamedTuple):
    """A row and its place: `file.jsonl:12` (lines count from 1) or `file.parquet[11]` (rows count from 0)."""

    where: str
    values: Mapping[str, Any]


def read_files(source: str | os.PathLike[str], split: str | None) -> Iterator[Row]:
    """Yield the rows of a file, of all files that a glob matches, or of the files of a split in a folder."""
    for path in find_files(source, split):
        yield from _read_file(path)


def find_files(source: str | os.PathLike[str], split: str | None) -> list[Path]:
    """Return the files of a path, a glob, or a split in a folder; DataError where there are none."""
    text = os.path.expanduser(os.fspath(source))
    path = Path(text)
    if path.is_dir():
        return _files_of_folder(path, split)
    if not path.exists() and not glob.has_magic(text):
        raise DataError(f"{text}: no such file")
    if split is not None:
        raise DataError(f"{text}: a file has no split {split!r}; name the file of that split, or its folder")
    if path.exists():
        return [path]
    found = sorted(Path(match) for match in glob.glob(text, recursive=True) if not os.path.isdir(match))
    if not found:
        raise DataError(f"{text}: no file matches")
    return found


def _files_of_folder(folder: Path, split: str | None) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if _format(path) in FORMATS)
    if not files:
        raise DataError(f"{folder}: no file in this folder ends in {', '.join(FORMATS)}")
    if split is None:
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(f"{folder}: give a split, or one of its files: {names}")
        return files
    for name in SPLIT_NAMES.get(split, (split,)):
        # `train.jsonl`, or shards as the hub names them: `train-00000-of-00002.parquet`.
        chosen = [path for path in files if re.fullmatch(rf"{re.escape(name)}(-\d+-of-\d+)?\..*", path.name)]
        if chosen:
            return chosen
    raise DataError(f"{folder}: no file for split {split!r}; there are {', '.join(path.name for path in files)}")


def _format(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def _read_file(path: Path) -> Iterator[Row]:
    kind = _format(path)
    if kind == ".parquet":
        return _read_parquet(path)
    if kind == ".json":
        return _read_json(path)
    if kind in (".jsonl", ".ndjson"):
        return _read_lines(path)
    valid = ", ".join(FORMATS)
    raise DataError(f"{path}: unknown format {kind!r}; valid are {valid}, optionally with {', '.join(COMPRESSIONS)}")


def _open(path: Path) -> IO[bytes]:
    if path.suffix not in COMPRESSIONS:
        return path.open("rb")
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return io.BytesIO(stream.read())
        import pyarrow as pa

        with pa.input_stream(str(path), compression="zstd") as stream:
            return io.BytesIO(stream.read())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}") from None


def _read_lines(path: Path) -> Iterator[Row]:
    with _open(path) as lines:
        yield from _parse_lines(path, lines)


def _parse_lines(path: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        text = _decode(where, line)
        if text.strip():
            yield _row(where, _parse(where, text))


def _decode(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}: {_excerpt(text)}") from None


def _excerpt(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else text[:60] + "..."


def _row(where: str, value: Any) -> Row:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: a row must be an object with named columns, not {type(value).__name__}")
    return Row(where, value)


def _read_json(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON list, of an object with exactly one list (`{"data": [...]}`), or of JSON lines."""
    with _open(path) as stream:
        data = stream.read()
    try:
        value = json.loads(_decode(str(path), data))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON lines in a file named .json, as is common on the hub
            yield from _parse_lines(path, data.splitlines())
            return
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
    if isinstance(value, Mapping):
        lists = [key for key, item in value.items() if isinstance(item, list)]
        if len(lists) != 1:
            raise DataError(f"{path}: must hold a list of rows, or an object with one list; its keys: {list(value)}")
        value = value[lists[0]]
    if not isinstance(value, list):
        raise DataError(f"{path}: must hold a list of rows, not {type(value).__name__}")
    for index, item in enumerate(value):
        yield _row(f"{path}[{index}]", item)


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from None
    with file:
        index = 0
        for batch in file.iter_batches():
            for values in batch.to_pylist():
                yield Row(f"{path}[{index}]", values)
                index += 1


def read_hub(name: str, config_name: str | None, split: str | None) -> Iterator[Row]:
    """Yield the rows of one split of a Hugging Face data set, from the local cache where the hub cannot be reached."""
    import datasets

    try:
        data = datasets.load_dataset(name, config_name, split=split)
    except (OSError, ValueError) as error:  # not found, not reachable, no such config or split
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name}: cannot be loaded from the Hugging Face hub: {reason}. A path to a .jsonl, .json or "
            ".parquet file, or to a folder of them, works in its place."
        ) from None
    if isinstance(data, Mapping):
        if len(data) > 1:
            raise DataError(f"{name}: give a split; it has {', '.join(data)}")
        split, data = next(iter(data.items()))
    for index, values in enumerate(data):
        yield Row(f"{name}[{split}][{index}]", values)


def read_mappings(rows: Iterable[Any]) -> Iterator[Row]:
    """Yield rows that are given as mappings; DataError for anything else."""
    for index, values in enumerate(rows):
        yield _row(f"row[{index}]", values)
