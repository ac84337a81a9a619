"""The hf sampler: continuous batching on transformers with one prefill a prompt.

It calls only the public `forward` of a causal language model, through transformers' attention interface (`batch.py`
holds the loop, `decoding.py` draws a token). `support.py` compares that with a plain forward when a model is loaded, so
that a model which it would sample wrongly is refused. Of the checkpoint's generation_config only the end-of-sequence
ids are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicCache

from star_rft.engines.hf.batch import PREFILL_TOKENS, Batch, Row
from star_rft.engines.hf.support import free_bytes, require_decodable, verify_decoding
from star_rft.engines.stopping import StopDetector
from star_rft.engines.tokenize import Prompt, tokenized
from star_rft.errors import UserError
from star_rft.models import load, read_config
from star_rft.models.ends import ends_by
from star_rft.models.spec import AnyModel, ModelSpec
from star_rft.types import Completion, Decoding, Request

MOST_ROWS = {"cpu": 256, "cuda": 1024}  # beyond this a step's time grows as fast as its rows
MEMORY_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of what is free
LOGIT_COPIES = 4  # fp32 copies of a row's logits that live at once while a token is drawn


class HFSampler:
    """Draws completions from a causal language model of transformers.

    Equal requests, batch size and thread count give bit-equal completions. Raises ModelError for a model that it would
    not sample exactly.
    """

    def __init__(self, model: AnyModel, *, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size {batch_size} is not positive")
        spec = ModelSpec.of(model)
        require_decodable(read_config(spec))
        loaded, tokenizer = load(spec)
        self.model: Any = loaded
        self.tokenizer = tokenizer
        self.version: str = transformers.__version__
        self.batch_size = batch_size
        self._ends = ends_by(tokenizer, loaded.generation_config)
        verified = verify_decoding(loaded)
        self._shapes, self._longest = verified.shapes, verified.longest
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
        stops = StopDetector(self.tokenizer, self._ends, decoding)
        if not prompts:
            return iter(())
        rows = batch_size or self.batch_size_for(len(prompts[0].ids), decoding)
        slots = min(rows, len(requests))
        batch = Batch(self.model, prompts, decoding, like=self._shapes, slots=slots)
        return self._completions(batch, decoding, stops)

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        """Return how many rows `sample` keeps in the batch: by free memory unless `batch_size` was given.

        A power of two, so that small changes of free memory do not change the batch.
        """
        if self.batch_size is not None:
            return self.batch_size
        device = self.model.device
        free = free_bytes(device) * MEMORY_SHARE[device.type] - PREFILL_TOKENS * self._token_bytes
        row_bytes = (max_prompt_tokens + decoding.max_tokens) * self._token_bytes
        row_bytes += LOGIT_COPIES * 4 * self.model.config.get_text_config(decoder=True).vocab_size
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
        limit, whose = self._longest.tokens, f"the model ({self._longest.why})"
        prompts = tokenized(requests, self.tokenizer, decoding=decoding, limit=limit, whose=whose)
        rows = self.model.get_input_embeddings().weight.shape[0]
        for prompt in prompts:
            if (highest := max(prompt.ids)) >= rows:
                raise UserError(
                    f"the prompt of problem {prompt.requests[0].problem_id} holds token {highest}"
                    f" ({self.tokenizer.convert_ids_to_tokens(highest)}), and the model embeds {rows}: leave it out"
                )
        return sorted(prompts, key=lambda prompt: -len(prompt.ids))  # stable, hence deterministic

    def _completions(self, batch: Batch, decoding: Decoding, stops: StopDetector) -> Iterator[Completion]:
        while rows := batch.step():
            finished = []
            for slot, row in enumerate(rows):
                if stops.ended(row.token_ids) or len(row.token_ids) == decoding.max_tokens:
                    batch.leave(slot)
                    finished.append(self._completion(row, stops))
            yield from finished

    def _completion(self, row: Row, stops: StopDetector) -> Completion:
        text, reason = stops.text(row.token_ids)
        return Completion(row.request, text, tuple(row.token_ids), reason, row.logprob)


def _bytes_per_token(shapes: DynamicCache) -> int:
    layers: list[Any] = shapes.layers  # transformers does not say that an attention layer has keys
    return sum(layer.keys[0, :, 0].nbytes + layer.values[0, :, 0].nbytes for layer in layers)
