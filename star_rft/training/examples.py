"""From prompts and completions to token ids that end with end-of-sequence, exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from star_rft.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def example_from_text(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, *, weight: float = 1.0
) -> Example:
    """Tokenise a rendered prompt (chat template and special tokens are in it already) and its completion.

    The two are tokenised apart, as sampling does, so that no token spans the seam.
    """
    completion_ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return example_from_tokens(tokenizer, prompt, completion_ids, weight=weight)


def example_from_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion_ids: Sequence[int], *, weight: float = 1.0
) -> Example:
    """Keep the very tokens that were sampled.

    For a completion that ended with end-of-sequence. One that ended with a stop string holds tokens of that
    string: give its text to `example_from_text` instead.
    """
    end = tokenizer.eos_token_id
    kept = list(completion_ids)
    while kept and kept[-1] == end:
        kept.pop()
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return Example(prompt_ids=tuple(prompt_ids), completion_ids=(*kept, end), weight=weight)
