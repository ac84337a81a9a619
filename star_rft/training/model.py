"""Loads a model to train, with Liger's kernels where they run, and writes the trained one as a plain checkpoint."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from star_rft.errors import TrainingError
from star_rft.models import ModelSpec, folder_of, load
from star_rft.models.limits import text_config
from star_rft.training.options import Say
from star_rft.training.publication import Publication, published

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from star_rft.training.forward import Forward
    from star_rft.training.probe import Wish


class LoadedModel(NamedTuple):
    """A model with float32 master weights, its tokenizer, how its forward is called, and its files as they were."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    forward: Forward
    published: Publication


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a training loads its model, and a reference model.

    `flash`: with flash-attention for packed sequences. `device` is where the forward is tried; `say` gets a line for
    what it lacks. `save_dtype` is as in `TrainingOptions`.
    """

    wish: Wish
    highest: int
    device: torch.device
    flash: bool = False
    packing: Literal["auto"] | bool = False
    save_dtype: str = "auto"
    say: Say | None = None


def load_for_training(model: ModelSpec, loading: LoadOptions, *, weights_from: Path | None = None) -> LoadedModel:
    """Load a model in float32 and try its forward; `weights_from` is a folder with its weights in float32.

    The loaded model gets a generation config of special tokens only: one that transformers finds inconsistent
    (a temperature without do_sample, as published checkpoints have) would make every save fail.
    """
    from transformers import GenerationConfig

    from star_rft.training.probe import probe

    # In its own dtype, a bf16 checkpoint would train in pure bf16, where small updates vanish.
    master = replace(model.at(weights_from or model.path), dtype="float32", device="cpu")
    loaded, tokenizer = load(master)
    size = text_config(loaded.config).vocab_size
    if loading.highest >= size:
        raise TrainingError(
            f"an example holds token {loading.highest} but the model has {size}: another model's tokenizer made it"
        )
    files = published(loaded, folder_of(model.path), dtype=loading.save_dtype)
    generation = files.generation
    loaded.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=generation.bos_token_id,
        eos_token_id=generation.eos_token_id,
        pad_token_id=generation.pad_token_id,
    )
    if loading.wish.is_fused:
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(loaded)
    module: torch.nn.Module = loaded  # whose `to` is typed
    module.to(loading.device)
    forward = probe(loaded, loading.wish, say=loading.say)
    if forward.packs and loading.flash:
        forward = _with_flash(loaded, forward, loading)
    if loading.wish.lengths and not forward.packs and loading.say is not None:
        loading.say(
            f"packing: {type(loaded).__name__} does not keep packed sequences apart, so that rows are padded instead"
        )
    return LoadedModel(loaded, tokenizer, forward, files)


def _with_flash(model: PreTrainedModel, forward: Forward, loading: LoadOptions) -> Forward:
    """Switch to flash-attention where it keeps packed sequences apart; `auto` packs with nothing else.

    A model that was loaded with eager attention stays with it: others leave a part of its formula out.
    """
    from star_rft.training.probe import packs_with_flash

    before = text_config(model.config)._attn_implementation
    if before == "sdpa":
        model.set_attn_implementation("flash_attention_2")
        if model.device.type != "cpu" and packs_with_flash(model, forward, loading.wish.lengths):
            return forward
        model.set_attn_implementation(before)
    return replace(forward, packs=loading.packing is True)


def save_model(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    files: Publication,
    dtype: str,
    ends: Sequence[int] = (),
) -> None:
    """Write weights in a dtype, the tokenizer, and the configs as they were before the training.

    `ends` are ids that the list of end ids in the generation config has to hold, for an engine to stop where
    completions are trained to end.
    """
    import torch

    model.config = files.loaded_config(dtype)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    architecture = type(model).__name__.removeprefix("FSDP")
    files.write(folder, architecture=architecture, dtype=dtype, ends=ends)


def apply_liger(model: PreTrainedModel, *, wanted: Literal["auto"] | bool, device: str) -> bool:
    """Put the kernels into this model, and say whether that was done; raise TrainingError where it cannot be.

    `auto` means: where liger-kernel is installed, the device is a CUDA GPU, and it knows the architecture.
    """
    if wanted is False:
        return False
    lacking = _lacking(model, device)
    if lacking is None:
        _patch(model)
    elif wanted is True:
        raise TrainingError(f"liger is true, but {lacking}: set it to auto or false")
    return lacking is None


def _lacking(model: PreTrainedModel, device: str) -> str | None:
    if importlib.util.find_spec("liger_kernel") is None:
        return "liger-kernel is not installed (pip install 'star-rft[liger]')"
    if device != "cuda":
        return f"its kernels run on a CUDA GPU, and this training on {device}"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return f"it has no kernels for models of type {model.config.model_type}"
    return None


def _patch(model: PreTrainedModel) -> None:
    """Patch the model and leave transformers as it was: what is loaded later, to sample, computes as ever.

    liger-kernel puts its classes into transformers' module too. The rotary kernel is found only there, and so is lost.
    """
    from transformers.integrations.liger import apply_liger_kernel

    module = vars(sys.modules[type(model).__module__])
    before = dict(module)
    kernels = {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    apply_liger_kernel(model, kernels)  # type: ignore[no-untyped-call]
    module.update(before)
