"""An adapter of peft as a model: it is merged once into its base, in the base's dtype."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from star_rft.files import whole_folder
from star_rft.models.config import read_json
from star_rft.models.errors import ModelError, explained, few, library_errors
from star_rft.models.load import ADAPTER_CONFIG, is_adapter, load_tokenizer, may_be_of_hub, read_model, without_bars
from star_rft.models.spec import ModelSpec

NOTE = "adapter_source.json"  # in a folder made from an adapter: what it was made from
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def adapter_folder(name: str | Path) -> Path | None:
    """Return where the files of an adapter lie, None for a model; one of the hub is fetched into the cache."""
    folder = Path(name)
    if folder.is_dir():
        return folder if is_adapter(folder) else None
    if folder.exists() or not may_be_of_hub(name) or "/" not in str(name):
        return None
    return _of_hub(str(name))


@without_bars()
def merged(spec: ModelSpec, adapter: Path, *, into: Path) -> Path:
    """Write the base model with the adapter in its weights into a folder, once; return it.

    `adapter` is the folder with the files of the adapter that `spec` names.
    """
    from transformers import GenerationConfig

    name = spec.path
    base = base_of(name, adapter)
    note = json.dumps({"adapter": Path(name).name, "base": str(base), "content": _content(name, adapter)}) + "\n"
    if into.exists():
        made_from = into / NOTE
        if not made_from.is_file() or made_from.read_text() != note:
            raise ModelError(f"{into} exists and was not made from the adapter {name}: remove it or choose another")
        return into
    try:
        model = read_model(spec.at(base), dtype="auto")
    except ModelError as error:
        raise ModelError(f"the base model of the adapter {name}: {error}") from error
    has_tokenizer = any((adapter / file).is_file() for file in _TOKENIZER_FILES)
    # An adapter's folder may lack the config that AutoTokenizer looks into, so the base's folder is the second choice.
    tokenizer = _tokenizer_of(spec.at(adapter if has_tokenizer else base))
    model = _with_adapter(name, adapter, model)
    generation = model.generation_config
    with whole_folder(into) as folder:
        # Saved apart: transformers refuses to save a model whose generation settings it finds inconsistent.
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        model.save_pretrained(folder)
        generation.to_json_file(folder / "generation_config.json")
        tokenizer.save_pretrained(folder)
        (folder / NOTE).write_text(note)
    return into


def _with_adapter(name: str | Path, adapter: Path, model: Any) -> Any:
    from peft import PeftConfig, PeftModel, load_peft_weights

    try:
        config = PeftConfig.from_pretrained(str(adapter))
        weights = load_peft_weights(str(adapter), device="cpu")
        _resize(model, weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is asked for below
            wrapped = PeftModel.from_pretrained(model, str(adapter), config=config)
        has_merge = not config.is_prompt_learning
        lost = _lost(wrapped, adapter) if has_merge else set()
        plain = wrapped.merge_and_unload() if has_merge else None
    except library_errors() as error:
        raise explained(error, name, what="adapter", is_trusted=False) from error
    if plain is None:
        raise ModelError(f"{name} is an adapter of type {config.peft_type.value}, which no weights can be merged with")
    if lost:
        raise ModelError(
            f"{name}: {len(lost)} weights of the adapter and of the base model do not meet ({few(lost)}): the adapter "
            "was trained on another model"
        )
    return plain


def _lost(wrapped: Any, adapter: Path) -> set[str]:
    """Return the adapter's weights that have no place in the model, and those of the model that it did not hold."""
    result = wrapped.load_adapter(str(adapter), "default")
    # peft writes embeddings that it saves whole a second time, under the name of their wrapper.
    doubled = (".modules_to_save.", ".original_module.")
    return {*result.missing_keys, *(name for name in result.unexpected_keys if not any(d in name for d in doubled))}


def _resize(model: Any, weights: Any) -> None:
    """Give the base as many embeddings as an adapter has that was trained with tokens of its own."""
    rows = [
        tensor.shape[0]
        for key, tensor in weights.items()
        if key.endswith(("embed_tokens.weight", "wte.weight", "lm_head.weight")) and "lora_" not in key
    ]
    if rows and max(rows) != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def _tokenizer_of(spec: ModelSpec) -> Any:
    from transformers import AutoTokenizer

    path, is_trusted = spec.path, spec.trust_remote_code
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        try:
            return AutoTokenizer.from_pretrained(path, trust_remote_code=is_trusted)
        except library_errors() as error:
            raise explained(error, path, what="tokenizer", is_trusted=is_trusted) from error
    return load_tokenizer(spec)


def base_of(name: str | Path, adapter: Path) -> str | Path:
    """Return the folder or hub name of an adapter's base model."""
    base = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{name}: its {ADAPTER_CONFIG} names no base_model_name_or_path: set it to the base model")
    # A relative name was written in the folder where peft ran; where both were moved, the base lies beside the adapter.
    folders = {folder.resolve() for folder in (Path(base), adapter / base) if folder.is_dir()}
    models = sorted(folder for folder in folders if (folder / "config.json").is_file()) or sorted(folders)
    if len(models) > 1:
        raise ModelError(
            f"{name}: its base model {base} may be {' or '.join(map(str, models))}:"
            f" set base_model_name_or_path in its {ADAPTER_CONFIG} to the full path"
        )
    if models:
        return models[0]
    if not may_be_of_hub(base):
        raise ModelError(
            f"{name}: its base model {base} is not on this machine: set base_model_name_or_path in its {ADAPTER_CONFIG}"
        )
    return base


def _content(name: str | Path, adapter: Path) -> str:
    """Return a hash of the adapter's config and weights."""
    files = [adapter / file for file in WEIGHTS if (adapter / file).is_file()]
    if not files:
        raise ModelError(f"{name}: an adapter without weights ({WEIGHTS[0]} is missing)")
    content = hashlib.blake2b(digest_size=8)
    for file in (adapter / ADAPTER_CONFIG, *files):
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()


def _of_hub(name: str) -> Path | None:
    """Return the folder of an adapter of the hub, whose cache remembers that a repository holds none."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, snapshot_download, try_to_load_from_cache

    if try_to_load_from_cache(name, ADAPTER_CONFIG) is _CACHED_NO_EXIST:
        return None
    try:
        hf_hub_download(name, ADAPTER_CONFIG)
        folder = Path(snapshot_download(name, ignore_patterns=["*.pt", "*.pth", "checkpoint-*"]))
    except (OSError, ValueError):  # no adapter, no such name, or no network: the loader says which
        return None
    return folder if is_adapter(folder) else None
