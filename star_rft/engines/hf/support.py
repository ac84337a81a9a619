"""Which models the hf engine decodes exactly: a check of the config, and a comparison with a plain forward.

No architecture is known by name. `check_decodable` refuses what can be seen without weights. `verify_decoding` decodes
a few rows of different lengths through the cache of slots, and compares their logits with those of transformers' eager
attention, which runs each row alone and without a cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from star_rft.engines.hf.batch import next_logits, prefill
from star_rft.engines.hf.kv_cache import Prefix, SlotCache, SlotWrite
from star_rft.engines.hf.slot_attention import ATTENTION
from star_rft.engines.tokenize import Prompt
from star_rft.models import Longest, ModelError, auto_class, first_line, longest_sequence, read_config, text_config
from star_rft.models.errors import FORWARD_ERRORS, explained, library_errors
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.runs.environment import usable_memory

CURE = "use sample.backend: vllm"
# Cache layers whose content the slots can hold. The last, of newer versions of transformers, holds none: its layer of
# the model uses the keys of another layer.
HELD = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__, "DummyLayer"}

# Two samples of one prompt, and a sample of another prompt that joins at step 2. Any ids do.
PROMPT_A, PROMPT_B = (11, 12, 13, 14, 15, 16, 17, 18, 19), (23, 24, 25, 26)
SUFFIXES = ((20, 21, 22, 11), (12, 17, 24, 25), (15, 20))
ROWS = (0, 0, 1)  # the prompt of each suffix
JOINS = (0, 0, 2)  # the step at which it joins
WINDOW = 4  # of sliding windows and chunks during the comparison, so that the short rows are longer than a window
# Allowed differences, as shares of the logits' range. In fp32 exact models differ by 1e-7 to 3e-6, and models with
# chaotic logits (48 layers with large random weights) by up to 7e-4. So a difference above FLOOR is allowed up to TIMES
# the difference of two plain forwards, with eager attention and with this engine's, and up to CEILING.
TIMES = 10
FLOOR = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.05}
CEILING = {**FLOOR, torch.float32: 1e-3}
HALF = (torch.bfloat16, torch.float16)
FAR = 2**20  # positions, where a config states no limit


@dataclass(frozen=True, slots=True)
class VerifiedDecoding:
    """A cache with the shapes of the model's keys and values, and the longest sequence for which decoding is exact."""

    shapes: DynamicCache
    longest: Longest


@dataclass(frozen=True, slots=True)
class Rows:
    """Prompts, and a suffix for each of `ROWS`, as ids below the model's vocabulary size."""

    prompts: tuple[tuple[int, ...], ...]
    suffixes: tuple[tuple[int, ...], ...]


def check_decodable(model: AnyModel) -> None:
    """Raise ModelError for a model that the hf engine cannot decode, as far as that shows without its weights."""
    spec = ModelSpec.of(model)
    config = read_config(spec)
    require_decodable(config)
    kind: Any = auto_class(spec.path, config)
    try:
        with torch.device("meta"):
            empty = kind.from_config(config, trust_remote_code=spec.trust_remote_code).eval()
    except library_errors() as error:
        raise explained(error, spec.path, what="architecture", is_trusted=spec.trust_remote_code) from error
    try:
        empty.set_attn_implementation(ATTENTION)
        with torch.inference_mode():
            _slot_logits(empty, _rows(empty))
    except ModelError as error:
        raise ModelError(_refusal(type(empty).__name__, str(error))) from error
    except FORWARD_ERRORS:
        return  # a router, for example, cannot choose experts without values: `verify_decoding` decides then


def require_decodable(config: PreTrainedConfig) -> None:
    """Raise ModelError for a model that the hf engine cannot decode, as far as its config says."""
    name = (config.architectures or [config.model_type])[0]
    if reason := _undecodable(config):
        raise ModelError(_refusal(name, reason))


def _undecodable(config: PreTrainedConfig) -> str | None:
    if config.is_encoder_decoder or text_config(config).is_encoder_decoder:
        return "it has an encoder and a decoder"
    text = text_config(config)
    if text.to_dict().get("kv_lora_rank"):
        return "it has latent attention, whose cache holds no keys"
    try:
        layers = DynamicCache(config=config).layers
    except FORWARD_ERRORS as error:
        return f"transformers has no plain cache for its layers ({first_line(error)})"
    if kinds := {type(layer).__name__ for layer in layers} - HELD:
        return f"its layers keep more than the keys and values of every token ({', '.join(sorted(kinds))})"
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text), None)
    if model is None:
        return None  # code that comes with the model: `verify_decoding` decides
    if model._is_stateful:
        return "it is recurrent"
    return _unfit(model)


def _unfit(model: Any) -> str | None:
    """Return what a model, or its class, lacks of the interface that the engine needs; None where it has all of it."""
    if not model._can_set_attn_implementation():
        return "it does not follow transformers' attention interface"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its forward takes no position_ids"
    return None


def _refusal(name: str, reason: str) -> str:
    return f"{name} cannot be sampled by the hf engine: {reason}; {CURE}"


@torch.inference_mode()
def verify_decoding(model: Any) -> VerifiedDecoding:
    """Switch the model to slot attention, and return what it then decodes exactly.

    Weights are compared in fp32 where memory allows.

    Raises:
        ModelError: Its logits differ from those of a plain forward of each row.
    """
    name = type(model).__name__
    try:
        if reason := _unfit(model):
            raise ModelError(reason)
        with _short_windows(model), _exact_products():
            return _compare(model)
    except torch.OutOfMemoryError:
        raise
    except ModelError as error:
        raise ModelError(_refusal(name, str(error))) from error
    except FORWARD_ERRORS as error:
        raise ModelError(_refusal(name, f"{type(error).__name__}: {first_line(error)}")) from error


def _compare(model: Any) -> VerifiedDecoding:
    rows = _rows(model)
    with _float32(model) as dtype:
        model.set_attn_implementation("eager")
        eager = _plain_logits(model, rows)
        model.set_attn_implementation(ATTENTION)
        if model.config._attn_implementation != ATTENTION:  # transformers only warns
            raise ModelError("it does not follow transformers' attention interface")
        shapes, slots = _slot_logits(model, rows)
        error = _difference(slots, eager)
        if not error <= FLOOR[dtype]:  # NaN fails too
            noise = _difference(_plain_logits(model, rows), eager)
            if not error <= min(TIMES * noise, CEILING[dtype]):
                raise ModelError(
                    "its logits with a cache of slots are not those of a plain forward "
                    f"(they differ by {error:.2g} of their range)"
                )
        longest = _longest(model, rows, slots, tolerance=FLOOR[dtype])
    if dtype != model.dtype:
        shapes, slots = _slot_logits(model, rows)
        if not slots.isfinite().all():
            raise ModelError(f"its logits are not finite in {str(model.dtype).removeprefix('torch.')}")
    return VerifiedDecoding(shapes, longest)


def _rows(model: Any) -> Rows:
    vocabulary = text_config(model.config).vocab_size
    return Rows(
        prompts=tuple(tuple(token % vocabulary for token in prompt) for prompt in (PROMPT_A, PROMPT_B)),
        suffixes=tuple(tuple(token % vocabulary for token in suffix) for suffix in SUFFIXES),
    )


def _difference(logits: torch.Tensor, plain: torch.Tensor) -> float:
    return ((logits - plain).abs().max() / (plain.max() - plain.min())).item()


def _longest(model: Any, rows: Rows, slots: torch.Tensor, *, tolerance: float) -> Longest:
    """Return how many positions are exact: fewer than the config states where attention uses the cache's length.

    Llama 4 scales queries by the length of the cache, which is one number for rows of different lengths. So the cache
    reports a larger length, and if that changes the logits, the smallest such length is found by bisection.
    """
    stated = longest_sequence(model.config)

    def is_changed(length: int) -> bool:
        _, logits = _slot_logits(model, rows, pretended_length=length)
        return not _difference(logits, slots) <= tolerance

    low, high = len(PROMPT_A) + len(SUFFIXES[0]), stated.tokens or FAR
    if high <= low or not is_changed(high):
        return stated
    if is_changed(low):
        raise ModelError("its attention or positions depend on the length of the whole cache")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_changed(middle) else (middle, high)
    positions = low + 2  # the last token is never fed, and the one before it sees a cache without itself
    return Longest(positions, f"beyond {positions} its attention depends on the length of the whole cache")


def _plain_logits(model: Any, rows: Rows) -> torch.Tensor:
    """Return the logits at the last prompt token and at the suffix of each row, a row at a time, without a cache."""
    logits = []
    for of, suffix in zip(ROWS, rows.suffixes, strict=True):
        ids_1_T = torch.tensor([rows.prompts[of] + suffix], device=model.device)
        logits.append(model(input_ids=ids_1_T, use_cache=False).logits[0, -len(suffix) - 1 :].float())
    return torch.cat(logits)


def _slot_logits(model: Any, rows: Rows, *, pretended_length: int | None = None) -> tuple[DynamicCache, torch.Tensor]:
    """Return the same logits by prefill and steps through a cache of slots, and the cache of the prefill."""
    prefilled = prefill(model, [Prompt(ids, ()) for ids in rows.prompts])
    shapes = prefilled[0].cache
    layers: list[Any] = shapes.layers
    if stateless := [index for index, layer in enumerate(layers) if not layer.is_initialized]:
        raise ModelError(f"its layer {stateless[0]} keeps no keys and values")
    cache = SlotCache(shapes, rows=len(ROWS), longest_prefix=max(map(len, rows.prompts)) - 1)
    cache.pretended_length = pretended_length
    prefixes = [Prefix(slot, len(ids) - 1, users=1) for slot, ids in enumerate(rows.prompts)]
    for prefix in prefixes:
        cache.admit(prefix, shapes, prefix.slot)
    logits: list[list[torch.Tensor]] = [[] for _ in ROWS]
    for step in range(len(rows.suffixes[0]) + 1):
        active = [row for row, joins in enumerate(JOINS) if joins <= step]
        tokens = [(rows.prompts[ROWS[row]][-1], *rows.suffixes[row])[step - JOINS[row]] for row in active]
        written = [SlotWrite(prefixes[ROWS[row]], step - JOINS[row]) for row in active]
        for row, logits_V in zip(active, next_logits(model, cache, tokens, written), strict=True):
            logits[row].append(logits_V.float())
    return shapes, torch.stack([logits_V for of_row in logits for logits_V in of_row])


@contextmanager
def _short_windows(model: Any) -> Iterator[None]:
    """Shorten sliding windows and chunks in the model's config to WINDOW: masks are made from it at every forward."""
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


@contextmanager
def _exact_products() -> Iterator[None]:
    """Keep a GPU from rounding fp32 products to TF32, which would hide a difference."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _has_config(module: Any) -> bool:
    return isinstance(getattr(module, "config", None), PreTrainedConfig)


@contextmanager
def _float32(model: Any) -> Iterator[torch.dtype]:
    """Hold the weights in fp32 where memory allows, and yield the dtype of the comparison.

    Every value of half precision is exact in fp32, so the weights are the same bits afterwards. Buffers that are fp32
    already are left alone.
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in HALF]
    more_bytes = sum(tensor.nbytes for tensor in tensors)
    has_room = 1.2 * more_bytes < free_bytes(model.device)
    if not tensors or not has_room or getattr(model.config, "quantization_config", None) is not None:
        yield model.dtype
        return
    dtypes = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield torch.float32
    finally:
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Return how much memory of the device is free; of the CPU's, within the limit of the container if it has one."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else usable_memory()[0]
