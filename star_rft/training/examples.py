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
    return example_from_tokens(tokenizer, prompt, token_ids(tokenizer, completion), weight=weight)


def example_from_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: str, completion_ids: Sequence[int], *, weight: float = 1.0
) -> Example:
    """Keep the very tokens that were sampled.

    For a completion that ended with end-of-sequence. One that ended with a stop string holds tokens of that
    string: give its text to `example_from_text` instead.
    """
    return Example(token_ids(tokenizer, prompt), ended(tokenizer, completion_ids), weight)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokenise a text as it is: special tokens are in it, if any."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def ended(tokenizer: PreTrainedTokenizerBase, completion_ids: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens of a completion with end-of-sequence behind them, exactly once."""
    end = tokenizer.eos_token_id
    kept = list(completion_ids)
    while kept and kept[-1] == end:
        kept.pop()
    return (*kept, end)
