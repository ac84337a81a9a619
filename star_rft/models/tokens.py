"""Prompts and completions as token ids: the same for sampling, training, scoring and export."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from star_rft.models.ends import Ends, Stops
from star_rft.types import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts in front of a continuation, of which one is used that stays as it is: no token of it reaches into what follows.
_ANCHORS = ("\n", "=", "a", "1", ")")


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokenise a text as it is: special tokens that it spells out become tokens, and none is added."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=16)
def bos_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that this tokenizer puts before a plain text, or "" if it puts none."""
    bos = tokenizer.bos_token
    if bos is None:
        return ""
    ids = tokenizer("a")["input_ids"]
    return str(bos) if ids[:1] == [tokenizer.bos_token_id] else ""


def plain_prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokenise a plain prompt, which begins with `bos_text`, as `tokenizer(text)` does a text of its own.

    Tokenised behind its beginning-of-sequence token, the first word of Llama's tokenizers would lack the ▁ that it has
    at the beginning of a text. The end-of-sequence token, which some tokenizers append, is left out.
    """
    ids: list[int] = tokenizer(text.removeprefix(bos_text(tokenizer)))["input_ids"]
    return tuple(ids[: len(ids) - _appended(tokenizer)])


@lru_cache(maxsize=16)
def _appended(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many special tokens the tokenizer puts behind a text."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return len(ids) - 1 - max(i for i, token in enumerate(ids) if token == text_ids(tokenizer, "a")[-1])


def continuation_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokenise a text that follows another one: without the ▁ that some tokenizers put before a text's first word."""
    alone = text_ids(tokenizer, text)
    if not text or not _adds_space(tokenizer):
        return alone
    for anchor in _ANCHORS:
        before = text_ids(tokenizer, anchor)
        together = text_ids(tokenizer, anchor + text)
        if together[: len(before)] == before:
            return together[len(before) :]
    return alone


@lru_cache(maxsize=16)
def _adds_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text gains a space before its first word when it is tokenised alone."""
    first = text_ids(tokenizer, "a")[:1]
    return bool(first) and str(tokenizer.convert_ids_to_tokens(list(first))[0]).startswith(("▁", "Ġ"))


def decoded(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Return the text of sampled tokens, special tokens left out."""
    text = tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # a list only for a batch
    return text


def ended_text_ids(tokenizer: PreTrainedTokenizerBase, text: str, ends: Ends, *, is_chat: bool) -> tuple[int, ...]:
    """Tokenise a completion that is given as text, and end it: the end token alone, once."""
    ids = list(continuation_ids(tokenizer, text))
    while ids and ids[-1] in ends.ids:
        ids.pop()
    return (*ids, ends.behind_text(is_chat=is_chat))


def sampled_completion_ids(
    tokenizer: PreTrainedTokenizerBase,
    token_ids: Sequence[int],
    text: str,
    finish_reason: FinishReason,
    ends: Ends,
    *,
    stops: Stops,
    is_chat: bool,
) -> tuple[int, ...]:
    """Return what is trained on of a completion whose ids were sampled.

    It ended with a token, or was cut off at its token limit: exactly these ids. It ended at one of the stop strings:
    the ids before that string, and the end token of texts. Where the string begins within a token, the rest of that
    token's text is tokenised on its own, so that the text is the one that the verifier judged; white space is not.
    """
    if finish_reason == "length" or not stops.strings or (token_ids and token_ids[-1] in stops.ids):
        return tuple(token_ids)
    count = len(token_ids)
    while count > 0 and not text.startswith(decoded(tokenizer, token_ids[:count])):
        count -= 1
    rest = text[len(decoded(tokenizer, token_ids[:count])) :]
    if count == 0:
        return ended_text_ids(tokenizer, text, ends, is_chat=is_chat)
    more = continuation_ids(tokenizer, rest) if rest.strip() else ()
    return (*token_ids[:count], *more, ends.behind_text(is_chat=is_chat))
