"""From prompts and completions as text to examples: for data that no model of the run sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from star_rft.models.ends import Ends, ends_by
from star_rft.models.tokens import ended_text_ids, text_ids
from star_rft.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def example_from_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    completion: str,
    *,
    weight: float = 1.0,
    ends: Ends | None = None,
    is_chat: bool = False,
) -> Example:
    """Tokenise a rendered prompt (chat template and special tokens are in it already) and its completion.

    The two are tokenised apart, as sampling does, so that no token spans the seam. The completion ends with the end
    token of the chat template where `is_chat`, else with the tokenizer's end-of-sequence token, exactly once; `ends`
    are the model's end tokens, those that the tokenizer names unless given.
    """
    known = ends_by(tokenizer) if ends is None else ends
    return Example(text_ids(tokenizer, prompt), ended_text_ids(tokenizer, completion, known, is_chat=is_chat), weight)


def example_from_tokens(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    completion_ids: Sequence[int],
    *,
    weight: float = 1.0,
    ends: Ends | None = None,
) -> Example:
    """Keep the very tokens that were sampled, of a completion that ended with one of the model's end tokens.

    Where none ends it, the tokenizer's end-of-sequence token is added. A completion that ended at a stop string holds
    tokens of that string: give its text to `example_from_text` instead.
    """
    known = ends_by(tokenizer) if ends is None else ends
    kept = list(completion_ids)
    while len(kept) > 1 and kept[-1] in known.ids and kept[-2] in known.ids:
        kept.pop()
    if not kept or kept[-1] not in known.ids:
        kept.append(known.behind_text(is_chat=False))
    return Example(text_ids(tokenizer, prompt), tuple(kept), weight)
