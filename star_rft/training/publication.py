"""Copies the files of a checkpoint besides its weights from the model that a training starts from.

A training changes its model's configs: TRL's trainer turns the cache off, aligns special tokens and asks for router
logits. None of that belongs in a checkpoint, which is sampled from, trained again and published.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

CONFIG, GENERATION = "config.json", "generation_config.json"
DTYPES = ("float32", "bfloat16", "float16")
# As safetensors names them. Weights of fewer bits are dequantised when they are loaded, and written in bfloat16.
STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True)
class Publication:
    """`config` and `generation` are of the loaded model, `raw_*` the files; `dtype` is that of published weights."""

    config: PretrainedConfig
    generation: GenerationConfig
    raw_config: Mapping[str, Any]
    raw_generation: Mapping[str, Any] | None
    dtype: str

    def loaded_config(self, dtype: str) -> PretrainedConfig:
        """Return the config of the model before the training, for plain weights of this dtype."""
        config = copy.deepcopy(self.config)
        for part in (config, *(getattr(config, name) for name in config.sub_configs if getattr(config, name, None))):
            part.dtype = dtype
            vars(part).pop("quantization_config", None)
        return config

    def write(self, folder: Path, *, architecture: str, dtype: str, ends: Sequence[int]) -> None:
        """Put both files into a folder where `save_pretrained` wrote weights, and its own versions of them.

        The config is the file that was there, so that it reads as its publisher wrote it; that of a model that was
        loaded as another architecture, or dequantised, is the loaded one.
        """
        named = self.raw_config.get("architectures") or [architecture]
        if architecture in named and "quantization_config" not in self.raw_config:
            _write(folder / CONFIG, _with_dtype(self.raw_config, dtype))
        _write(folder / GENERATION, self._generation(ends))

    def _generation(self, ends: Sequence[int]) -> dict[str, Any]:
        """Return the generation config with all the ids that a completion ends with in its list, its own ones first."""
        raw = self.generation.to_diff_dict() if self.raw_generation is None else dict(self.raw_generation)
        had = raw.get("eos_token_id", self.generation.eos_token_id)
        listed = [] if had is None else list(had) if isinstance(had, list | tuple) else [had]
        added = [end for end in dict.fromkeys(ends) if end not in listed]
        if added:
            both = [*listed, *added]
            raw["eos_token_id"] = both if len(both) > 1 else both[0]
        return raw


def published(model: PreTrainedModel, folder: Path, *, dtype: str) -> Publication:
    """Keep what a training would change; `dtype` "auto" is that of the folder's weights, as its config names it."""
    from transformers import GenerationConfig

    raw = json.loads((folder / CONFIG).read_text())
    file = folder / GENERATION
    config = copy.deepcopy(model.config)
    return Publication(
        config=config,
        generation=copy.deepcopy(model.generation_config) or GenerationConfig(),  # type: ignore[no-untyped-call]
        raw_config=raw,
        raw_generation=json.loads(file.read_text()) if file.is_file() else None,
        dtype=dtype_of(folder) if dtype == "auto" else dtype,
    )


def dtype_of(folder: Path) -> str:
    """Return what the weights of a model folder are published in: by its config, else by the weights themselves."""
    raw = json.loads((folder / CONFIG).read_text())
    for part in (raw, *_parts(raw)):
        for key in ("dtype", "torch_dtype"):
            if (name := str(part.get(key)).removeprefix("torch.")) in DTYPES:
                return name
    sizes: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for entry in _header(file).values():
            start, end = entry["data_offsets"]
            sizes[entry["dtype"]] = sizes.get(entry["dtype"], 0) + end - start
    # Without a word about it, transformers reads older kinds of files as float32.
    return STORED.get(max(sizes, key=lambda name: sizes[name]), "bfloat16") if sizes else "float32"


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    return header


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configs within a config, that of the text first."""
    parts = {name: part for name, part in config.items() if name.endswith("_config") and isinstance(part, dict)}
    yield from sorted(parts.values(), key=lambda part: part is not parts.get("text_config"))


def _with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return a config that names the dtype of the weights wherever it names one."""
    changed: dict[str, Any] = {}
    for name, value in config.items():
        if name.endswith("_config") and isinstance(value, dict):
            changed[name] = _with_dtype(value, dtype)
        else:
            changed[name] = dtype if name in ("dtype", "torch_dtype") and value is not None else value
    return changed


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
