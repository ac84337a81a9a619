"""Conventions by which models end their turns, and a small random model of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.small_models import tokenizer_of

SPECIAL = ["<eos>", "<turn>", "<close>", "<user>", "<assistant>", "<other>"]
EOS, TURN, CLOSE, USER, ASSISTANT, OTHER = range(6)
LETTERS = "abcdefghijklmnopqrstuvwxyz ?.\n"

BETWEEN = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<close>\n{% endfor %}"
TWICE = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}<close>\n{% endfor %}<eos>"
BY_EOS = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }} <eos>{% endfor %}"
BY_NEXT = "{% for m in messages %}<{{ m['role'] }}>\n{{ m['content'] }}{% endfor %}"
GENERATE = "{% if add_generation_prompt %}<assistant>{% endif %}"


@dataclass(frozen=True)
class Convention:
    """How a kind of model ends its turns. `listed` stands in its generation_config.json."""

    template: str | None
    listed: int | list[int]
    behind_text: int
    ends: set[int]


CONVENTIONS = {
    "a base model": Convention(None, EOS, EOS, {EOS}),
    "the turn ends with the tokenizer's end": Convention(BY_EOS, EOS, EOS, {EOS}),
    "the turn ends with a token of its own that is listed": Convention(BETWEEN, [EOS, CLOSE], CLOSE, {EOS, CLOSE}),
    "the template writes both ends": Convention(TWICE, [EOS, CLOSE, OTHER], CLOSE, {EOS, CLOSE, OTHER}),
    "a base model with a template whose end nothing lists": Convention(BETWEEN, EOS, CLOSE, {EOS, CLOSE}),
    "the next turn's token ends a turn": Convention(BY_NEXT, [EOS, USER, OTHER], USER, {EOS, USER, OTHER}),
}


def turn_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens of every convention."""
    made = tokenizer_of(
        [*SPECIAL, *LETTERS], unknown="?", eos_token="<eos>", pad_token="<eos>", extra_special_tokens=SPECIAL[1:]
    )
    made.chat_template = None if template is None else template + GENERATE
    return made


def save_turn_model(folder: Path, convention: Convention) -> Path:
    """Save a random model that ends its turns by a convention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(LETTERS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    made = LlamaForCausalLM(config)
    made.generation_config = GenerationConfig(eos_token_id=convention.listed)
    made.save_pretrained(folder)
    turn_tokenizer(convention.template).save_pretrained(folder)
    return folder
