from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from star_rft.training.dataset import example_from_text
from tests.training.conftest import END


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
    return loaded


def test_the_end_is_added_to_a_text_exactly_once(tokenizer: PreTrainedTokenizerBase) -> None:
    example = example_from_text(tokenizer, "w1 w2", "w3 w4")
    assert example.completion_ids.count(END) == 1
    assert example.completion_ids[-1] == END
    assert tokenizer.decode(list(example.completion_ids[:-1])) == "w3 w4"


def test_the_prompt_gets_no_special_tokens_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    assert example_from_text(tokenizer, "w1 w2", "w3").prompt_ids == (4, 5)


def test_an_example_carries_its_weight(tokenizer: PreTrainedTokenizerBase) -> None:
    assert example_from_text(tokenizer, "w1", "w2", weight=0.5).weight == 0.5
