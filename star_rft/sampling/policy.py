"""`Source`: a model that is sampled, with its decodings and prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import TYPE_CHECKING

from star_rft.models.tokens import text_ids
from star_rft.sampling.plan import POLICY
from star_rft.types import Decoding, Model, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Render = Callable[[Problem], str]
Encode = Callable[[str], tuple[int, ...] | None]
COUNTED = 512  # prompts that `longest_prompt` tokenises


@dataclass(frozen=True, slots=True)
class Source:
    """A model with its decodings and renderings of prompts, which the samples of a problem take in turn.

    `model` is None for the policy of the round. `sample_indices` of the sources of one round do not overlap. `encode`
    returns the tokens of a rendered prompt; without it the engine tokenises the text as it is.
    """

    tokenizer: PreTrainedTokenizerBase
    sample_indices: range
    decodings: tuple[Decoding, ...]
    renders: tuple[Render, ...]
    name: str = POLICY
    model: Model | None = None
    is_hinted: bool = False
    encode: Encode | None = None

    def decoding_of(self, sample_index: int) -> Decoding:
        """Return the decoding of a sample by its index."""
        return self.decodings[(sample_index - self.sample_indices.start) % len(self.decodings)]

    def render(self, problem: Problem, sample_index: int) -> str:
        """Return the prompt of a problem for a sample of this index, by the rendering whose turn it is."""
        return self.renders[(sample_index - self.sample_indices.start) % len(self.renders)](problem)

    def at(self, temperature: float) -> Source:
        """Return this source at another temperature."""
        return replace(self, decodings=tuple(replace(d, temperature=temperature) for d in self.decodings))

    def longest_prompt(self, problems: Sequence[Problem]) -> int:
        """Return the number of tokens of the longest prompt, over all renderings.

        Only the COUNTED longest problems in characters are tokenised: a million problems would take minutes.
        """
        longest = nlargest(COUNTED, problems, key=lambda problem: len(problem.prompt))
        texts = [render(problem) for render in self.renders for problem in longest]
        encoded = [None if self.encode is None else self.encode(text) for text in texts]
        return max(
            len(text_ids(self.tokenizer, text) if ids is None else ids)
            for text, ids in zip(texts, encoded, strict=True)
        )
