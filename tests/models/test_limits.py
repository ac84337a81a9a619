"""How long a sequence a model takes, for configs of very different architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import models as architectures

from star_rft.models import Longest, longest_sequence, stated_length

FACTORS = [1.0] * 4
LONG = {"rope_type": "longrope", "short_factor": FACTORS, "long_factor": FACTORS}
PHI3: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "pad_token_id": 0,
}  # fmt: skip
CONFIGS: dict[str, tuple[Any, int | None]] = {
    "gpt2": (architectures.GPT2Config(n_positions=77), 77),
    "opt": (architectures.OPTConfig(max_position_embeddings=77), 77),
    "mpt, whose ALiBi is a table": (architectures.MptConfig(max_seq_len=77), 77),
    "falcon": (architectures.FalconConfig(max_position_embeddings=77), 77),
    "bloom, ALiBi without a length": (architectures.BloomConfig(), None),
    "mamba": (architectures.MambaConfig(), None),
    "rwkv": (architectures.RwkvConfig(context_length=77), 77),
    "xlnet, which has -1": (architectures.XLNetConfig(), None),
    "nemotron_h": (architectures.NemotronHConfig(max_position_embeddings=77), 77),
    "dbrx": (architectures.DbrxConfig(max_seq_len=77), 77),
    "gemma3n": (architectures.Gemma3nConfig(text_config={"max_position_embeddings": 77}), 77),
    "gemma3": (architectures.Gemma3Config(text_config={"max_position_embeddings": 77}), 77),
    "llama4": (architectures.Llama4Config(text_config={"max_position_embeddings": 77}), 77),
    "qwen2_vl": (architectures.Qwen2VLConfig(text_config={"max_position_embeddings": 77}), 77),
    "deepseek_v3": (architectures.DeepseekV3Config(max_position_embeddings=77), 77),
    "whisper, an encoder-decoder": (architectures.WhisperConfig(max_target_positions=77), 77),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_length_is_found_under_any_name_or_there_is_none(name: str, tmp_path: Path) -> None:
    config, tokens = CONFIGS[name]
    found = longest_sequence(config)
    assert found.tokens == tokens
    assert found.why
    config.save_pretrained(tmp_path)
    assert stated_length(json.loads((tmp_path / "config.json").read_text())).tokens == tokens


def test_long_rope_ends_at_its_original_length() -> None:
    config = architectures.Phi3Config(
        **PHI3, max_position_embeddings=256, original_max_position_embeddings=64, rope_parameters=LONG
    )
    found = longest_sequence(config)
    assert found.tokens == 64
    assert "long rope changes its factors beyond 64 positions" in found.why


def test_the_first_configs_of_phi_3_say_su() -> None:
    raw = {
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "su", "short_factor": FACTORS, "long_factor": FACTORS},
    }
    assert stated_length(raw).tokens == 64


def test_rope_of_each_type_of_layer_is_looked_at() -> None:
    raw = {
        "max_position_embeddings": 256,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default"},
            "full_attention": LONG | {"original_max_position_embeddings": 64},
        },
    }
    assert stated_length({"text_config": raw}).tokens == 64


def test_dynamic_rope_ends_where_its_base_begins_to_change() -> None:
    raw = {"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 4.0}}
    assert stated_length(raw) == Longest(
        64, "dynamic NTK rope changes its base beyond 64 positions, for the whole batch"
    )


def test_fixed_scaling_keeps_the_whole_length() -> None:
    raw = {
        "max_position_embeddings": 256,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    }
    assert stated_length(raw) == Longest(256, "max_position_embeddings")


def test_configs_of_code_outside_transformers_are_read() -> None:
    assert stated_length({"max_context_length": 2048, "ffn_multipliers": [0.5, 1.0]}).tokens == 2048
    assert stated_length({"llm_config": {"n_ctx": 64}, "vision_config": {"n_ctx": 9}}).tokens == 64
    assert stated_length({"max_position_embeddings": None}).tokens is None
