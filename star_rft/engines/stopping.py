"""Detects the end of a completion: end tokens and stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from star_rft.models.ends import Ends, stops_of
from star_rft.models.tokens import decoded
from star_rft.types import Decoding, FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLACK = 4  # tokens decoded beyond the length of the stop string, against tokens that decode to nothing


class StopStrings:
    """Finds stop strings in text that grows a token at a time, also across token boundaries.

    Raises ValueError for an empty stop string.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        if "" in stop:
            raise ValueError("a stop string is empty, which would stop every completion at once")
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        # A token is at least one byte of text, so the last `_window` tokens hold any stop string that ends in the last.
        self._window = max((len(text.encode()) for text in stop), default=0) + SLACK
        self._may_end = lru_cache(maxsize=None)(self._may_end_a_stop)

    def ended(self, token_ids: Sequence[int]) -> bool:
        """Say whether the last token completes a stop string."""
        if not self._stop or not self._may_end(token_ids[-1]):
            return False
        tail = self.decode(token_ids[-self._window :])
        # The last tokens alone may decode differently from all of them (a leading space): the whole text decides.
        return self._first(tail) is not None and self._first(self.decode(token_ids)) is not None

    def cut(self, text: str) -> tuple[str, bool]:
        """Return the text before the first stop string, and whether there was one."""
        first = self._first(text)
        return (text, False) if first is None else (text[:first], True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of sampled tokens, special tokens left out."""
        return decoded(self._tokenizer, token_ids)

    def _first(self, text: str) -> int | None:
        return min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)

    def _may_end_a_stop(self, token_id: int) -> bool:
        """Whether a token's text holds the last character of a stop string: most tokens are ruled out so, and cached.

        A token that is part of a character (U+FFFD), or shows nothing on its own, is not ruled out.
        """
        piece = self.decode([token_id])
        return piece.strip() == "" or "\ufffd" in piece or any(stop[-1] in piece for stop in self._stop)


class StopDetector:
    """Tells when completions of one decoding end, and where their text does.

    They end at a token of `ids`, at one of `strings`, or at the token limit, which is the caller's to check.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Ends, decoding: Decoding) -> None:
        stops = stops_of(tokenizer, ends, stop=decoding.stop, stop_token_ids=decoding.stop_token_ids)
        self.ids, self.strings = stops.ids, stops.strings
        self._texts = StopStrings(tokenizer, stops.strings)

    def ended(self, token_ids: Sequence[int]) -> bool:
        """Say whether the last token ends the completion."""
        return token_ids[-1] in self.ids or self._texts.ended(token_ids)

    def text(self, token_ids: Sequence[int]) -> tuple[str, FinishReason]:
        """Return the text of a finished completion, before its end token and stop string, and why it ended."""
        has_end = token_ids[-1] in self.ids
        text, is_cut = self._texts.cut(self._texts.decode(token_ids[:-1] if has_end else token_ids))
        return text, "stop" if has_end or is_cut else "length"
