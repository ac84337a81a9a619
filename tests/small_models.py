"""Small tokenizers of single characters, a random model with one, and copies of the tiny model, as folders."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from star_rft.models import load, resolve

ALPHABET = string.ascii_lowercase + " .é"


def tokenizer_of(
    tokens: Sequence[str], *, unknown: str, begins_with: Sequence[str] = (), decoder: Any = None, **special: Any
) -> PreTrainedTokenizerFast:
    """A tokenizer of these single characters and special tokens, whose ids are their places.

    `unknown` stands for every other character; `begins_with` are the special tokens that it puts before a text.
    Without a decoder, it puts a space between the tokens of a decoded text.
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    if decoder is not None:
        tokenizer.decoder = decoder
    if begins_with:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join([*begins_with, "$A"]), special_tokens=[(token, vocabulary[token]) for token in begins_with]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def character_tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_of(
        ["<pad>", "<bos>", "<eos>", "<unk>", *ALPHABET],
        unknown="<unk>",
        decoder=decoders.Fuse(),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def saved(model: PreTrainedModel, folder: Path) -> Path:
    """Save a model with the tokenizer of characters and return the folder."""
    model.save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def save_random_llama(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Llama of two layers, with defaults that must not leak into sampling."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(character_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,  # large, so that the distributions are far from uniform
    )
    model = LlamaForCausalLM(config)
    model.generation_config.update(do_sample=True, top_k=2, temperature=0.3, repetition_penalty=1.5)
    return saved(model, folder)


def copy_of_tiny(folder: Path, index: int) -> str:
    """Save a copy of the tiny model that differs in one weight by its index: pooled models are told apart by that."""
    model: Any
    model, tokenizer = load(resolve("tiny", into=folder))
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += 0.001 * (index + 1)
    model.save_pretrained(folder / f"model-{index}")
    tokenizer.save_pretrained(folder / f"model-{index}")
    return str(folder / f"model-{index}")


def letters_tokenizer(*, adds_bos: bool = True, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a character, with bos, eos and unk."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 {}:?.<>|_/\n"
    made = tokenizer_of(
        ["<s>", "</s>", "<unk>", *letters],
        unknown="<unk>",
        begins_with=["<s>"] if adds_bos else [],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    made.chat_template = chat_template
    return made
