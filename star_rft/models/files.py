"""The files of a model folder: which hold its weights, and which of them are damaged. No torch is needed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

from star_rft.models.config import read_json
from star_rft.models.errors import ModelError, few

LFS = b"version https://git-lfs"
# In the order in which transformers looks for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Suffixes of what git-lfs may have left as a pointer.
_TRACKED = (".safetensors", ".bin", ".json", ".model", ".txt", ".tiktoken", ".jinja")
# transformers goes on without some of these where they are broken: then another token ends the texts, or none does.
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
_PICKLE = b"\x80"  # what older versions of torch wrote, which is no zip file
_LONGEST_POINTER = 1024
_LONGEST_HEADER = 100_000_000  # the format's own limit


class Entry(NamedTuple):
    """A tensor in a safetensors file, by its header."""

    dtype: str
    shape: tuple[int, ...]


def check_files(folder: Path) -> None:
    """Raise ModelError for git-lfs pointers, torn weights, broken JSON, and shards that an index names and lack."""
    pointers = [
        file.name
        for file in sorted(folder.iterdir())
        if file.suffix in _TRACKED and file.is_file() and is_pointer(file)
    ]
    if pointers:
        raise ModelError(
            f"{folder}: a git-lfs pointer is in place of the content of {few(pointers)}: run `git lfs pull` there, or "
            "download the model again"
        )
    for name in _SETTINGS:
        if (folder / name).is_file():
            read_json(folder / name)
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            header_of(file)
        elif not zipfile.is_zipfile(file) and not _begins(file, _PICKLE):
            raise ModelError(f"{file} is damaged: download it again")


def is_pointer(file: Path) -> bool:
    """Whether a file is a Git LFS pointer in place of the weights."""
    return file.stat().st_size <= _LONGEST_POINTER and _begins(file, LFS)


def _begins(file: Path, content: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(content)) == content


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads the weights from; empty without any."""
    for name in WEIGHTS:
        file = folder / name
        if not file.is_file():
            continue
        if file.suffix != ".json":
            return [file]
        index = read_json(file).get("weight_map")
        if not isinstance(index, dict):
            raise ModelError(f"{file} has no weight_map: fetch it again")
        shards = sorted({str(shard) for shard in index.values()})
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise ModelError(
                f"{folder}: {len(missing)} of the {len(shards)} files that {name} names are missing ({few(missing)}): "
                "download the model again"
            )
        return [folder / shard for shard in shards]
    return []


def header_of(file: Path) -> dict[str, Entry]:
    """Return the tensors of a safetensors file; raise ModelError where its end is missing or it is something else."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _LONGEST_HEADER):
                raise ValueError("its header is not whole")
            header = json.loads(stream.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        found = {name: Entry(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{file} is no whole safetensors file ({error}): download it again") from None
    if 8 + length + end != size:
        raise ModelError(
            f"{file} has {size} bytes where its header says {8 + length + end}: it was cut off, download it again"
        )
    return found


def tensors_of(folder: Path) -> dict[str, Entry]:
    """Return the tensors of all safetensors files of a model; empty for a checkpoint of another format."""
    return {
        name: entry
        for file in weight_files(folder)
        if file.suffix == ".safetensors"
        for name, entry in header_of(file).items()
    }
