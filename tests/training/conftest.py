from __future__ import annotations

import random
from pathlib import Path

import pytest

from star_rft.types import Example, Preference

VOCABULARY = 60
END = 1


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a word-level tokenizer, as a folder that transformers loads."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(VOCABULARY - 3))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=END,
        bos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def random_examples(count: int, *, seed: int = 0, weighted: bool = False) -> list[Example]:
    """Examples of unequal lengths; each completion ends with end-of-sequence."""
    rng = random.Random(seed)
    return [
        Example(
            prompt_ids=tuple(rng.choices(range(3, VOCABULARY), k=rng.randint(1, 9))),
            completion_ids=(*rng.choices(range(3, VOCABULARY), k=rng.randint(1, 15)), END),
            weight=rng.choice([0.25, 0.5, 2.0]) if weighted else 1.0,
        )
        for _ in range(count)
    ]


def random_preferences(count: int, *, seed: int = 0, completions: int = 2) -> list[Preference]:
    """Preferences of so many completions of unequal lengths; all between the first and the last have one score."""
    rng = random.Random(seed)
    return [
        Preference(
            prompt_ids=tuple(rng.choices(range(3, VOCABULARY), k=rng.randint(1, 9))),
            completion_ids=tuple(
                (*rng.choices(range(3, VOCABULARY), k=rng.randint(1, 15)), END) for _ in range(completions)
            ),
            scores=(3.0, *[2.0] * (completions - 2), 1.0),
        )
        for _ in range(count)
    ]
