from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from star_rft.engines.stopping import StopStrings


@pytest.fixture(scope="module")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and one of several characters: a stop string may end in the middle of a token."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "Que", ":x"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def first_end(tokenizer: PreTrainedTokenizerFast, stop: list[str], tokens: list[int]) -> int | None:
    """Return after how many tokens the text is found to have ended."""
    stops = StopStrings(tokenizer, stop)
    return next((n for n in range(1, len(tokens) + 1) if stops.ended(tokens[:n])), None)


@pytest.mark.parametrize(
    ("text", "stop", "length"),
    [
        ("abc\n\nQ: more", ["\n\nQ:"], len("abc\n\nQ:")),
        ("x é. y", ["é."], len("x é.".encode())),
        ("a🙂b", ["🙂"], len("a🙂".encode())),
        ("one two", [" "], 4),
        ("one two", ["zzz", "two", "ne"], 3),
        ("one two", ["three"], None),
    ],
)
def test_a_stop_string_is_found_with_its_last_byte(
    byte_tokenizer: PreTrainedTokenizerFast, text: str, stop: list[str], length: int | None
) -> None:
    tokens = byte_tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert first_end(byte_tokenizer, stop, tokens) == length


def test_a_stop_string_that_ends_inside_a_token_is_found(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = byte_tokenizer.convert_tokens_to_ids(["a", "Que", ":x", "b"])
    assert isinstance(tokens, list)
    assert first_end(byte_tokenizer, ["e:"], tokens) == 3


def test_the_text_is_cut_before_the_first_stop_string(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    stops = StopStrings(byte_tokenizer, ["two", "n"])
    assert stops.cut("one two") == ("o", True)
    assert stops.cut("three") == ("three", False)


def test_an_empty_stop_string_is_refused(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="stop string is empty"):
        StopStrings(byte_tokenizer, [""])
