"""A tokenizer whose ids the model does not embed, or that knows no end, is refused before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import GenerationConfig

from star_rft.models import ModelError, check_model, load
from star_rft.models.spec import ModelSpec
from tests.models.checkpoints import configured
from tests.small_models import character_tokenizer, save_random_llama


def with_tokenizer(folder: Path, change: Callable[[Any], object]) -> Path:
    """Save a model of the plain tokenizer's size with a changed tokenizer."""
    save_random_llama(folder)
    tokenizer = character_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


CHAT = "{% for message in messages %}<|turn|>{{ message['content'] }}{% endfor %}"


def special(text: str) -> AddedToken:
    return AddedToken(text, special=True)


def with_chat(tokenizer: Any) -> None:
    tokenizer.add_tokens([special("<|turn|>")])
    tokenizer.chat_template = CHAT


BEYOND: dict[str, Callable[[Any], object]] = {
    "plain tokens": lambda tokenizer: tokenizer.add_tokens(["<think>", "</think>"]),
    "a special token of the chat template": with_chat,
    "an end token": lambda tokenizer: tokenizer.add_special_tokens({"eos_token": "<|end|>"}),
}


@pytest.mark.parametrize("what", BEYOND)
def test_ids_beyond_the_embedding_are_refused_with_the_cure(what: str, tmp_path: Path) -> None:
    folder = with_tokenizer(tmp_path, BEYOND[what])
    for read in (load, check_model):
        with pytest.raises(
            ModelError, match=r"makes ids up to \d+ and the model embeds 33 .*resize_token_embeddings\(3\d\)"
        ):
            read(folder)


def test_special_tokens_that_nothing_writes_may_lie_beyond_the_embedding(tmp_path: Path) -> None:
    # The text models of Gemma 3 have the token of an image, Llama 2 is often given a padding token.
    folder = with_tokenizer(tmp_path, lambda tokenizer: tokenizer.add_tokens([special("<image>"), special("[PAD]")]))
    _, tokenizer = load(ModelSpec(folder, device="cpu"))
    assert max(tokenizer.get_vocab().values()) == 34
    check_model(folder)


def test_an_embedding_with_rows_to_spare_is_no_fault(tmp_path: Path) -> None:
    save_random_llama(tmp_path)
    model, tokenizer = load(ModelSpec(tmp_path, device="cpu"))
    model.resize_token_embeddings(64)
    model.save_pretrained(tmp_path)
    assert load(ModelSpec(tmp_path, device="cpu"))[0].config.vocab_size == 64 > len(tokenizer)


def without_end(folder: Path) -> Path:
    def forget(tokenizer: Any) -> None:
        tokenizer.eos_token = None

    with_tokenizer(folder, forget)
    configured(folder, eos_token_id=None)
    (folder / "generation_config.json").unlink()
    return folder


def test_a_model_that_knows_no_end_is_refused_with_the_cure(tmp_path: Path) -> None:
    folder = without_end(tmp_path)
    for read in (load, check_model):
        with pytest.raises(ModelError, match=r"no token ends its texts: set eos_token in tokenizer_config\.json"):
            read(folder)


def test_an_end_in_the_generation_config_or_the_config_is_enough(tmp_path: Path) -> None:
    folder = without_end(tmp_path)
    GenerationConfig(eos_token_id=[2, 3]).save_pretrained(folder)
    load(ModelSpec(folder, device="cpu"))
    (folder / "generation_config.json").unlink()
    load(ModelSpec(configured(folder, eos_token_id=2), device="cpu"))


def test_an_end_that_the_model_cannot_write_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no token ends its texts"):
        load(ModelSpec(configured(without_end(tmp_path), eos_token_id=999), device="cpu"))
