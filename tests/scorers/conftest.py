"""Small random models with the tokenizer of the shipped tiny one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, LlamaConfig
from transformers import LlamaForSequenceClassification as LlamaClassifier

from star_rft.models import ASSETS

TINY = ASSETS / "tiny"


def save_reward_model(folder: Path, *, chat_template: str | None = None, **changes: Any) -> Path:
    """Save a random Llama of the tiny one's shape with one output; its weights are large, so that scores differ."""
    config = LlamaConfig.from_pretrained(TINY, num_labels=1, num_hidden_layers=2, dtype="float32")
    config.initializer_range = 0.2
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    LlamaClassifier(config).save_pretrained(folder)
    return save_tokenizer(folder, chat_template)


def save_bert(folder: Path) -> Path:
    """Save a random classifier whose tokens see both ways: padding that is not masked would change its output."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
    )
    config.num_labels = 1
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return save_tokenizer(folder, None)


def save_tokenizer(folder: Path, chat_template: str | None) -> Path:
    """Save the tiny tokenizer, made to begin a text with <s> as many do."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    begin = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward_model(tmp_path_factory.mktemp("reward") / "model")
