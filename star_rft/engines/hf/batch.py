"""The decoding loop: a batch whose rows join from a queue of prefilled prompts and leave when they end.

    todo --prefill (all but the last token, once a prompt)--> waiting --into free slots--> rows
    rows --one forward for all, draw--> finished rows leave; their slots go to waiting requests

Axes: N active rows, T positions, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from star_rft.engines.hf.decoding import draw, uniforms
from star_rft.engines.hf.kv_cache import Prefix, SlotCache, SlotWrite
from star_rft.engines.tokenize import Prompt
from star_rft.types import Decoding, Request

PREFILL_TOKENS = 2048  # a forward of this many tokens keeps the cores busy; more only needs more memory


@dataclass(slots=True)
class Prefill:
    """All but the last token of a prompt, run through the model: row `index` of `cache`."""

    prompt: Prompt
    cache: DynamicCache
    index: int
    prefix: Prefix | None = None  # once it is in the cache of slots


@dataclass(slots=True)
class Row:
    """A completion that is being drawn: its tokens so far, and one uniform number for each token it may have."""

    request: Request
    prefix: Prefix
    last_prompt_token: int
    uniforms: list[float]
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0

    @property
    def next_input(self) -> int:
        """The token that the next forward is fed for this row: the last one of its prompt or its completion."""
        return self.token_ids[-1] if self.token_ids else self.last_prompt_token


@lru_cache
def _arguments(kind: type[torch.nn.Module]) -> frozenset[str]:
    """Return the names of a forward's arguments; cached, because reading a signature is slow and every step does it."""
    return frozenset(inspect.signature(kind.forward).parameters)


def takes(model: torch.nn.Module, argument: str) -> bool:
    """Whether the forward of a model has an argument of this name."""
    kind: Any = type(model)  # mypy does not know that a class of modules is hashable
    return argument in _arguments(kind)


def cache_argument(model: torch.nn.Module) -> str:
    """Return the name of the forward's cache argument: `cache` in newer transformers, else `past_key_values`."""
    return "cache" if takes(model, "cache") else "past_key_values"


@torch.inference_mode()
def prefill(model: Any, prompts: Sequence[Prompt]) -> list[Prefill]:
    """Run all but the last token of each prompt through the model in one forward.

    Padding on the right is never seen by a causal model's real tokens, so no mask is needed.
    """
    width = max(len(prompt.ids) for prompt in prompts) - 1
    cache = DynamicCache()  # without the config, hence without windows: the slots need every key
    if width > 0:
        ids = [[*prompt.ids[:-1], *[0] * (width + 1 - len(prompt.ids))] for prompt in prompts]
        ids_N_T = torch.tensor(ids, device=model.device)
        positions_N_T = torch.arange(width, device=model.device).expand(len(prompts), -1)
        # Logits of a whole prompt, which nothing reads, would be the largest tensor of all.
        keep = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}
        model(input_ids=ids_N_T, position_ids=positions_N_T, use_cache=True, **{cache_argument(model): cache}, **keep)
    return [Prefill(prompt, cache, index) for index, prompt in enumerate(prompts)]


@torch.inference_mode()
def next_logits(model: Any, cache: SlotCache, tokens: Sequence[int], rows: Sequence[SlotWrite]) -> torch.Tensor:
    """Feed one token a row, row i in slot i, and return logits_N_V for the token after it."""
    positions_N = torch.tensor([row.prefix.length + row.written for row in rows], device=model.device)
    with cache.aim(rows):
        output = model(
            input_ids=torch.tensor(tokens, device=model.device)[:, None],
            position_ids=positions_N[:, None],
            use_cache=True,
            **{cache_argument(model): cache},
        )
    logits_N_V: torch.Tensor = output.logits[:, -1]
    return logits_N_V


class Batch:
    """The rows that are decoded together, in the slots of one cache."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], decoding: Decoding, *, like: DynamicCache, slots: int
    ) -> None:
        """Queue the prompts. `like` holds keys and values of the model's shapes."""
        self._model = model
        self._decoding = decoding
        self._todo = deque(prompts)
        self._waiting: deque[tuple[Request, Prefill]] = deque()
        self._rows: list[Row | None] = [None] * slots  # None is a free slot
        self._prefixes: list[Prefix] = []  # in the order of their slots
        longest = max(len(prompt.ids) for prompt in prompts) - 1
        with torch.inference_mode():
            self._cache = SlotCache(like, rows=slots, longest_prefix=longest)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Fill free slots, append a token to every row and return the rows; none when nothing is left."""
        self._drop_prefixes()
        self._fill()
        self._compact()
        rows = [row for row in self._rows if row is not None]
        if rows:
            self._decode(rows)
        return rows

    def leave(self, slot: int) -> None:
        """Give up the slot of a finished row: its index in what `step` returned."""
        row = self._rows[slot]
        assert row is not None
        row.prefix.users -= 1
        self._rows[slot] = None

    def _drop_prefixes(self) -> None:
        """Move the last prefixes into the slots of those without users: a step reads slots 0 to P-1, all in use."""
        for slot in reversed(range(len(self._prefixes))):
            if self._prefixes[slot].users == 0:
                last = self._prefixes.pop()
                if last.slot != slot:
                    self._cache.move_prefix(last, slot)
                    self._prefixes[slot] = last

    def _fill(self) -> None:
        """Put waiting requests into free slots, prefilling more prompts when none wait."""
        for slot, row in enumerate(self._rows):
            if row is not None:
                continue
            if not self._waiting and self._todo:
                for prefilled in prefill(self._model, self._next_prompts()):
                    self._waiting.extend((request, prefilled) for request in prefilled.prompt.requests)
            if not self._waiting:
                return
            request, prefilled = self._waiting.popleft()
            prompt = prefilled.prompt
            if prefilled.prefix is None:
                prefilled.prefix = Prefix(len(self._prefixes), len(prompt.ids) - 1, len(prompt.requests))
                self._prefixes.append(prefilled.prefix)
                self._cache.admit(prefilled.prefix, prefilled.cache, prefilled.index)
            numbers = uniforms(request.seed, self._decoding.max_tokens)
            self._rows[slot] = Row(request, prefilled.prefix, prompt.ids[-1], numbers)

    def _next_prompts(self) -> list[Prompt]:
        """Take as many prompts as one prefill holds. They are queued longest first, so the first one is the width."""
        width = len(self._todo[0].ids)
        count = min(max(PREFILL_TOKENS // width, 1), len(self._todo))
        return [self._todo.popleft() for _ in range(count)]

    def _compact(self) -> None:
        """Move rows from the end into free slots, so that rows are slots 0 to N-1 and the batch shrinks at the end."""
        slot = 0
        while slot < len(self._rows):
            if self._rows[slot] is not None:
                slot += 1
                continue
            last = self._rows.pop()
            if last is not None:
                self._cache.move_row(len(self._rows), slot, len(last.token_ids))
                self._rows[slot] = last

    def _decode(self, rows: Sequence[Row]) -> None:
        """Append a token to every row.

        Row i uses the uniform number of its own position, so a token does not depend on what else is in the batch.
        """
        logits_N_V = next_logits(
            self._model,
            self._cache,
            [row.next_input for row in rows],
            [SlotWrite(row.prefix, len(row.token_ids)) for row in rows],
        )
        uniform_N = torch.tensor(
            [row.uniforms[len(row.token_ids)] for row in rows], dtype=torch.float64, device=logits_N_V.device
        )
        token_N, logprob_N = draw(
            logits_N_V,
            uniform_N,
            temperature=self._decoding.temperature,
            top_p=self._decoding.top_p,
            top_k=self._decoding.top_k,
        )
        # One transfer for both: on a GPU this is the only moment of a step at which the host waits.
        drawn = torch.stack([token_N.double(), logprob_N.double()]).tolist()
        for row, token, logprob in zip(rows, *drawn, strict=True):
            if math.isnan(logprob):
                raise FloatingPointError("the model returned NaN instead of logits: its weights are broken")
            row.token_ids.append(int(token))
            row.logprob += logprob
