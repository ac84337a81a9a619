"""Loading a model to train, and writing what became of it as a plain checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from star_rft.models import load
from star_rft.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


class Loaded(NamedTuple):
    """A model with float32 master weights, its tokenizer, and its generation config as it was."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig


def load_for_training(path: str | Path, *, trust_remote_code: bool, flash: bool, highest: int) -> Loaded:
    """Load a model that knows the token `highest`, with flash-attention where asked for.

    The model itself gets a generation config of special tokens only: one that transformers finds inconsistent
    (a temperature without do_sample, as published checkpoints have) would make every save fail.
    """
    from transformers import GenerationConfig

    # In its own dtype, a bf16 checkpoint would train in pure bf16, where small updates vanish.
    model, tokenizer = load(path, dtype="float32", device="cpu", trust_remote_code=trust_remote_code)
    size = model.config.get_text_config().vocab_size
    if highest >= size:
        raise TrainingError(
            f"an example holds token {highest} but the model has {size}: another model's tokenizer made it"
        )
    if flash:
        model.set_attn_implementation("flash_attention_2")
    generation = model.generation_config or GenerationConfig()  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=generation.bos_token_id,
        eos_token_id=generation.eos_token_id,
        pad_token_id=generation.pad_token_id,
    )
    return Loaded(model, tokenizer, generation)


def check_target_modules(model: PreTrainedModel, target_modules: str | Sequence[str]) -> None:
    """Raise TrainingError for a LoRA target that no module of the model answers to."""
    if target_modules == "all-linear":
        return
    names = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    targets = [target_modules] if isinstance(target_modules, str) else target_modules
    for target in targets:
        if isinstance(target_modules, str):
            found = any(re.fullmatch(target, name) for name in names)
        else:
            found = any(name == target or name.endswith(f".{target}") for name in names)
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in names})
            raise TrainingError(
                f"lora.target_modules: no module of the model is named {target!r}; "
                f"it has {', '.join(ends)} (or use 'all-linear')"
            )


def save_model(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    generation: GenerationConfig,
    dtype: str,
    is_lora: bool,
) -> None:
    """Write weights, tokenizer and generation config; adapters are merged, and kept in `adapter/`."""
    import torch

    if is_lora:
        model.save_pretrained(folder / "adapter")
        model = model.merge_and_unload()
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generation.to_json_file(folder / "generation_config.json")
