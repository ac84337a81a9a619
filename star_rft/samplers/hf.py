"""The sampler on transformers: continuous batching with one prefill a prompt.

It calls only the public `forward` of a causal language model with full attention, through transformers'
attention interface (`decode.py` holds the loop). A probe at the start compares that with a plain forward, so
a model for which it does not hold is refused instead of sampled wrongly. Nothing of the checkpoint's
generation_config is used but its end-of-sequence ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from star_rft.models import ModelError, load
from star_rft.models.ends import ends_by
from star_rft.samplers.decode import PREFILL_TOKENS, Batch, Row, next_logits, prefill
from star_rft.samplers.kv_cache import ATTENTION, Prefix, SlotCache, Written
from star_rft.samplers.prompts import Prompt, tokenized
from star_rft.samplers.stops import Endings
from star_rft.types import Completion, Decoding, Request

MOST_ROWS = {"cpu": 256, "cuda": 1024}  # beyond this a step's time grows as fast as its rows
MEMORY_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of what is free
LOGIT_COPIES = 4  # fp32 copies of a row's logits that live at once while a token is drawn
PROBE = (tuple(range(11, 17)), tuple(range(23, 26)))  # two prompts of unequal length; any ids do
PROBE_TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.1, torch.float16: 0.05}  # of the logits' range


class HFSampler:
    """Draws completions from a causal language model of transformers.

    Equal requests, batch size and thread count give bit-equal completions.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not positive")
        model, tokenizer = load(model_path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        self.model: Any = model
        self.tokenizer = tokenizer
        self.version: str = transformers.__version__
        self.batch_size = batch_size
        self._ends = ends_by(tokenizer, model.generation_config)
        _require_plain_attention(model)
        self._shapes = _prove_slots(model)
        self._limit = _longest_sequence(model)
        self._token_bytes = _bytes_per_token(self._shapes)

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        """Yield exactly one completion a request, as they finish. A faulty request raises ValueError now.

        `batch_size` is how many rows are decoded at once; None is what `batch_size_for` says.
        """
        if self.model is None:
            raise RuntimeError("this sampler was closed")
        prompts = self._tokenize(requests, decoding)
        endings = Endings(self.tokenizer, self._ends, decoding)
        if not prompts:
            return iter(())
        rows = batch_size or self.batch_size_for(len(prompts[0].ids), decoding)
        slots = min(rows, len(requests))
        batch = Batch(self.model, prompts, decoding, like=self._shapes, slots=slots)
        return self._completions(batch, decoding, endings)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        """Return how many rows `sample` keeps in the batch: by free memory unless `batch_size` was given.

        A power of two, so that small changes of free memory do not change the batch.
        """
        if self.batch_size is not None:
            return self.batch_size
        device = self.model.device
        free = _free_bytes(device) * MEMORY_SHARE[device.type] - PREFILL_TOKENS * self._token_bytes
        row_bytes = (max_prompt_tokens + decoding.max_tokens) * self._token_bytes
        row_bytes += LOGIT_COPIES * 4 * self.model.config.vocab_size
        rows = min(max(int(free / row_bytes), 1), MOST_ROWS[device.type])
        return 1 << (rows.bit_length() - 1)

    def close(self) -> None:
        """Free the model's memory; the sampler cannot be used afterwards."""
        is_on_gpu = self.model is not None and self.model.device.type == "cuda"
        self.model = None
        if is_on_gpu:
            torch.cuda.empty_cache()

    def _tokenize(self, requests: Sequence[Request], decoding: Decoding) -> list[Prompt]:
        """Gather the requests by prompt, longest prompt first: neighbours then need little padding."""
        prompts = tokenized(requests, self.tokenizer, decoding=decoding, limit=self._limit, whose="the model")
        return sorted(prompts, key=lambda prompt: -len(prompt.ids))  # stable, hence deterministic

    def _completions(self, batch: Batch, decoding: Decoding, endings: Endings) -> Iterator[Completion]:
        while rows := batch.step():
            finished = []
            for slot, row in enumerate(rows):
                if endings.ended(row.token_ids) or len(row.token_ids) == decoding.max_tokens:
                    batch.leave(slot)
                    finished.append(self._completion(row, endings))
            yield from finished

    def _completion(self, row: Row, endings: Endings) -> Completion:
        text, reason = endings.text(row.token_ids)
        return Completion(row.request, text, tuple(row.token_ids), reason, row.logprob)


def _longest_sequence(model: Any) -> int:
    """Return how many positions the model takes: up to its window a sliding layer is a full one."""
    windows = [
        layer.sliding_window
        for layer in DynamicCache(config=model.config).layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    return min([int(model.config.get_text_config(decoder=True).max_position_embeddings), *windows])


def _bytes_per_token(shapes: DynamicCache) -> int:
    layers: list[Any] = shapes.layers  # transformers does not say that an attention layer has keys
    return sum(layer.keys[0, :, 0].nbytes + layer.values[0, :, 0].nbytes for layer in layers)


def _require_plain_attention(model: Any) -> None:
    """Refuse a model whose layers remember something else than the keys and values of every token."""
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    unknown = kinds - {DynamicLayer, DynamicSlidingWindowLayer}
    if unknown or model.config.is_encoder_decoder:
        names = ", ".join(sorted(kind.__name__ for kind in unknown)) or "an encoder and a decoder"
        raise ModelError(f"{type(model).__name__} does not have plain attention layers ({names}): use the vllm backend")


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return int(psutil.virtual_memory().available)


@torch.inference_mode()
def _prove_slots(model: Any) -> DynamicCache:
    """Switch the model to slot attention; return a cache of its shapes.

    ModelError if it then decodes two rows of unequal length differently from a plain forward of each.
    """
    plain = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1].float() for ids in PROBE]
    model.set_attn_implementation(ATTENTION)
    if model.config._attn_implementation != ATTENTION:  # transformers only warns
        raise ModelError(
            f"{type(model).__name__} does not follow transformers' attention interface: use the vllm backend"
        )
    prefilled = prefill(model, [Prompt(ids, ()) for ids in PROBE])
    shapes = prefilled[0].cache
    cache = SlotCache(shapes, rows=len(PROBE), longest_prefix=max(map(len, PROBE)) - 1)
    prefixes = [Prefix(slot, len(ids) - 2, users=1) for slot, ids in enumerate(PROBE)]
    for prefix in prefixes:
        cache.admit(prefix, shapes, prefix.slot)
    # The last two tokens go through the cache, so that prefix and suffix both have something to say.
    for at in (-2, -1):
        tokens = [ids[at] for ids in PROBE]
        slots = next_logits(model, cache, tokens, [Written(prefix, 2 + at) for prefix in prefixes]).float()
    plain_N_V = torch.stack(plain)
    error = ((slots - plain_N_V).abs().max() / (plain_N_V.max() - plain_N_V.min())).item()
    if not error <= PROBE_TOLERANCE[model.dtype]:
        raise ModelError(
            f"{type(model).__name__} does not decode with a cache of slots as it does "
            f"without one (difference {error:.3f} of the logits' range): use the vllm backend"
        )
    return shapes
