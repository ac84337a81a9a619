"""Rows of a batch that are decoded together, join from a queue of prefilled prompts and leave on their own.

    todo --prefill (all but the last token, once a prompt)--> waiting --copied into free slots--> rows
    rows --one forward for all, draw--> finished rows leave; their slots go to waiting requests

Axes: N active rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from star_rft.samplers.draw import draw, uniforms
from star_rft.samplers.kv_cache import SlotCache
from star_rft.types import Decoding, Request

PREFILL_TOKENS = 2048  # a forward of this many tokens keeps the cores busy; more only needs more memory


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with every request for it."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Prefilled:
    """All but the last token of a prompt, run through the model: row `index` of `cache`."""

    prompt: Prompt
    cache: DynamicCache
    index: int


@dataclass(slots=True)
class Row:
    """A completion in the making. The next step feeds `last_token` at `position`."""

    request: Request
    last_token: int
    position: int
    uniforms: list[float]
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0


@torch.inference_mode()
def prefill(model: Any, prompts: Sequence[Prompt]) -> list[Prefilled]:
    """Run all but the last token of each prompt through the model in one forward.

    Padding on the right is never seen by a causal model's real tokens, so no mask is needed.
    """
    width = max(len(prompt.ids) for prompt in prompts) - 1
    cache = DynamicCache()
    if width > 0:
        ids = [[*prompt.ids[:-1], *[0] * (width + 1 - len(prompt.ids))] for prompt in prompts]
        ids_N_T = torch.tensor(ids, device=model.device)
        positions_N_T = torch.arange(width, device=model.device).expand(len(prompts), -1)
        model(
            input_ids=ids_N_T,
            position_ids=positions_N_T,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return [Prefilled(prompt, cache, index) for index, prompt in enumerate(prompts)]


@torch.inference_mode()
def next_logits(
    model: Any, cache: SlotCache, tokens: Sequence[int], positions: Sequence[int]
) -> torch.Tensor:
    """Feed one token a row, row i in slot i, and return logits_N_V for the token after it."""
    positions_N = torch.tensor(positions, device=model.device)
    output = model(
        input_ids=torch.tensor(tokens, device=model.device)[:, None],
        attention_mask=cache.aim(positions_N, max(positions)),
        position_ids=positions_N[:, None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits_N_V: torch.Tensor = output.logits[:, -1]
    return logits_N_V


class Batch:
    """The rows that are decoded together, in the slots of one cache."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], decoding: Decoding, *, like: DynamicCache, slots: int
    ):
        """Queue the prompts. `like` holds keys and values of the model's shapes."""
        self._model = model
        self._decoding = decoding
        self._todo = deque(prompts)
        self._waiting: deque[tuple[Request, Prefilled]] = deque()
        self._rows: list[Row | None] = [None] * slots  # None is a free slot
        positions = max(len(prompt.ids) for prompt in prompts) + decoding.max_tokens
        with torch.inference_mode():
            self._cache = SlotCache(like, slots=slots, positions=positions)

    def steps(self) -> Iterator[list[Row]]:
        """Decode until nothing is left: yield the active rows after each step. Some may `leave` then."""
        while True:
            self._fill()
            self._compact()
            rows = [row for row in self._rows if row is not None]
            if not rows:
                return
            self._step(rows)
            yield rows

    def leave(self, slot: int) -> None:
        """Give up the slot of a finished row: its index in what `steps` yielded."""
        self._rows[slot] = None

    def _fill(self) -> None:
        """Put waiting requests into free slots, prefilling more prompts when none wait."""
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        chosen: list[tuple[int, Request, Prefilled]] = []
        for slot in free:
            if not self._waiting and self._todo:
                for done in prefill(self._model, self._next_prompts()):
                    self._waiting.extend((request, done) for request in done.prompt.requests)
            if not self._waiting:
                break
            chosen.append((slot, *self._waiting.popleft()))
        for _, group in groupby(chosen, key=lambda choice: id(choice[2])):
            entries = list(group)
            done = entries[0][2]
            length = len(done.prompt.ids) - 1
            self._admit([slot for slot, _, _ in entries], done, length)
            for slot, request, _ in entries:
                numbers = uniforms(request.seed, self._decoding.max_tokens)
                self._rows[slot] = Row(request, done.prompt.ids[-1], length, numbers)

    def _next_prompts(self) -> list[Prompt]:
        """Take as many prompts as one prefill holds. They come longest first: the first is the width."""
        width = len(self._todo[0].ids)
        count = min(max(PREFILL_TOKENS // width, 1), len(self._todo))
        return [self._todo.popleft() for _ in range(count)]

    @torch.inference_mode()
    def _admit(self, slots: Sequence[int], done: Prefilled, length: int) -> None:
        self._cache.admit(slots, done.cache, done.index, length)

    @torch.inference_mode()
    def _compact(self) -> None:
        """Move rows from the end into free slots, so that the batch shrinks when nothing waits."""
        slot = 0
        while slot < len(self._rows):
            if self._rows[slot] is not None:
                slot += 1
                continue
            last = self._rows.pop()
            if last is not None:
                self._cache.move(len(self._rows), slot, last.position)
                self._rows[slot] = last

    @torch.inference_mode()
    def _step(self, rows: Sequence[Row]) -> None:
        """Append a token to every row."""
        logits_N_V = next_logits(
            self._model, self._cache, [row.last_token for row in rows], [row.position for row in rows]
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
            row.last_token = int(token)
            row.token_ids.append(int(token))
            row.position += 1
            row.logprob += logprob
