"""Whether the hf engine computes what a model is: by its config, then by a comparison with a plain forward.

The engine never knows an architecture by name. `require_decodable` refuses what a config says without weights;
`prove_slots` decodes a few ragged rows through the cache of slots and compares their logits with those of transformers'
eager attention, which runs each row alone and without a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from star_rft.models import ModelError, first_line
from star_rft.samplers.decode import next_logits, prefill
from star_rft.samplers.kv_cache import Prefix, SlotCache, Written
from star_rft.samplers.prompts import Prompt
from star_rft.samplers.slot_attention import ATTENTION

# What a model raises that is given a cache, positions or arguments which it does not know.
FOREIGN = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, AssertionError)
CURE = "use sample.backend: vllm"

# Two samples of one prompt, and a sample of another prompt that joins at step 2. Any ids do.
PROMPT_A, PROMPT_B = (11, 12, 13, 14, 15, 16, 17, 18, 19), (23, 24, 25, 26)
SUFFIXES = ((20, 21, 22, 11), (12, 17, 24, 25), (15, 20))
JOINS = (0, 0, 2)
WINDOW = 4  # of sliding windows and chunks while the probe runs: the rows are then longer than any
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}  # of the logits' range
HALF = (torch.bfloat16, torch.float16)


def require_decodable(config: PreTrainedConfig) -> None:
    """Refuse by its config alone a model that the hf engine cannot decode. ModelError says why."""
    name = (config.architectures or [config.model_type])[0]
    if reason := _undecodable(config):
        raise ModelError(_refusal(name, reason))


def _undecodable(config: PreTrainedConfig) -> str | None:
    if config.is_encoder_decoder:
        return "it has an encoder and a decoder"
    text = config.get_text_config(decoder=True)
    try:
        layers = DynamicCache(config=config).layers
    except FOREIGN as error:
        return f"transformers has no plain cache for its layers ({first_line(error)})"
    kinds = {type(layer).__name__ for layer in layers if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer)}
    if kinds:
        return f"it keeps a state other than the keys and values of every token ({', '.join(sorted(kinds))})"
    model = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text), None)
    if model is None:
        return None  # code that comes with the model: the probe decides
    if model._is_stateful:
        return "it is recurrent"
    if not model._can_set_attn_implementation():
        return "it does not follow transformers' attention interface"
    return None


def _refusal(name: str, reason: str) -> str:
    return f"{name} cannot be sampled by the hf engine: {reason}; {CURE}"


@torch.inference_mode()
def prove_slots(model: Any) -> DynamicCache:
    """Switch the model to slot attention; return a cache of its shapes.

    ModelError if it then decodes ragged rows differently from a plain forward of each, in fp32 where memory allows.
    """
    name = type(model).__name__
    try:
        with _short_windows(model):
            return _compare(model)
    except torch.OutOfMemoryError:
        raise
    except ModelError as error:
        raise ModelError(_refusal(name, str(error))) from error
    except FOREIGN as error:
        raise ModelError(_refusal(name, f"{type(error).__name__}: {first_line(error)}")) from error


def _compare(model: Any) -> DynamicCache:
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    prompts = [tuple(token % vocabulary for token in prompt) for prompt in (PROMPT_A, PROMPT_B)]
    suffixes = [tuple(token % vocabulary for token in suffix) for suffix in SUFFIXES]
    with _float32(model) as dtype:
        plain = _plain_logits(model, prompts, suffixes)
        model.set_attn_implementation(ATTENTION)
        if model.config._attn_implementation != ATTENTION:  # transformers only warns
            raise ModelError("it does not follow transformers' attention interface")
        shapes, slots = _slot_logits(model, prompts, suffixes)
        error = ((slots - plain).abs().max() / (plain.max() - plain.min())).item()
        if not error <= TOLERANCE[dtype]:
            raise ModelError(f"it decodes differently with a cache of slots (by {error:.2g} of the logits' range)")
    if dtype != model.dtype:
        shapes, slots = _slot_logits(model, prompts, suffixes)
        if not slots.isfinite().all():
            raise ModelError(f"its logits are not finite in {model.dtype}")
    return shapes


def _plain_logits(model: Any, prompts: Sequence[tuple[int, ...]], suffixes: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Return the logits at the last prompt token and at the suffix of each row, by eager attention, a row at a time."""
    model.set_attn_implementation("eager")
    logits = []
    for prompt, suffix in zip((prompts[0], prompts[0], prompts[1]), suffixes, strict=True):
        ids_1_T = torch.tensor([prompt + suffix], device=model.device)
        logits.append(model(input_ids=ids_1_T, use_cache=False).logits[0, len(prompt) - 1 :].float())
    return torch.cat(logits)


def _slot_logits(
    model: Any, prompts: Sequence[tuple[int, ...]], suffixes: Sequence[tuple[int, ...]]
) -> tuple[DynamicCache, torch.Tensor]:
    """Return the same logits by prefill and steps through a cache of slots, and the cache of the prefill."""
    prefilled = prefill(model, [Prompt(ids, ()) for ids in prompts])
    shapes = prefilled[0].cache
    if stateless := [index for index, layer in enumerate(shapes.layers) if not layer.is_initialized]:
        raise ModelError(f"its layer {stateless[0]} keeps no keys and values")
    cache = SlotCache(shapes, rows=len(suffixes), longest_prefix=max(map(len, prompts)) - 1)
    prefixes = [Prefix(slot, len(ids) - 1, users=1) for slot, ids in enumerate(prompts)]
    for prefix in prefixes:
        cache.admit(prefix, shapes, prefix.slot)
    rows = list(zip((0, 0, 1), suffixes, JOINS, strict=True))
    logits: list[list[torch.Tensor]] = [[] for _ in rows]
    for step in range(len(SUFFIXES[0]) + 1):
        active = [row for row in rows if row[2] <= step]
        tokens = [(prompts[of][-1], *suffix)[step - joins] for of, suffix, joins in active]
        written = [Written(prefixes[of], step - joins) for of, _, joins in active]
        for of_row, logits_V in zip(logits, next_logits(model, cache, tokens, written), strict=False):
            of_row.append(logits_V.float())
    return shapes, torch.stack([logits_V for of_row in logits for logits_V in of_row])


@contextmanager
def _short_windows(model: Any) -> Iterator[None]:
    """Shorten windows and chunks in the config, which masks are made from: short rows are then longer than they."""
    configs = {id(module.config): module.config for module in model.modules() if _has_config(module)}
    real = [
        (config, name, value)
        for config in configs.values()
        for name in ("sliding_window", "attention_chunk_size")
        if isinstance(value := getattr(config, name, None), int) and value > WINDOW
    ]
    try:
        for config, name, _ in real:
            setattr(config, name, WINDOW)
        yield
    finally:
        for config, name, value in real:
            setattr(config, name, value)


def _has_config(module: Any) -> bool:
    return isinstance(getattr(module, "config", None), PreTrainedConfig)


@contextmanager
def _float32(model: Any) -> Iterator[torch.dtype]:
    """Hold the weights in fp32 where memory allows, and give the dtype that a comparison then has.

    From half precision and back every value stays what it is. Buffers that are fp32 already are left alone.
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in HALF]
    more_bytes = sum(tensor.nbytes for tensor in tensors)
    has_room = 1.2 * more_bytes < free_bytes(model.device)
    if not tensors or not has_room or getattr(model.config, "quantization_config", None) is not None:
        yield model.dtype
        return
    dtypes = [tensor.dtype for tensor in tensors]
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield torch.float32
    finally:
        torch.set_float32_matmul_precision(precision)
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Return how much memory of the device is free."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)
