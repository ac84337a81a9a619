"""A checkpoint that is not the model that its config describes is refused, with the names of the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig
from transformers import models as architectures

from star_rft.models import ModelError, check_model, load
from star_rft.models.spec import ModelSpec
from tests.models.checkpoints import SIZES, configured, rewritten, saved_random
from tests.small_models import save_random_llama

GPT2: dict[str, Any] = {
    "vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MLA: dict[str, Any] = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 1,
    "topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
# Tied heads, tied otherwise, buffers, fused experts, other layouts on disk, recurrent states.
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama, tied": lambda: architectures.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "gpt2": lambda: architectures.GPT2Config(**GPT2),
    "gpt_neox": lambda: architectures.GPTNeoXConfig(**SIZES | {"num_key_value_heads": 4}),
    "opt": lambda: architectures.OPTConfig(**SIZES, word_embed_proj_dim=32, ffn_dim=64),
    "bloom": lambda: architectures.BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=4, eos_token_id=2),
    "phi3": lambda: architectures.Phi3Config(**SIZES),
    "gemma2": lambda: architectures.Gemma2Config(**SIZES, head_dim=8),
    "mixtral": lambda: architectures.MixtralConfig(**SIZES, num_local_experts=4),
    "qwen3_moe": lambda: architectures.Qwen3MoeConfig(
        **SIZES | {"head_dim": 8}, num_experts=4, moe_intermediate_size=16
    ),
    "deepseek_v3": lambda: architectures.DeepseekV3Config(**SIZES | {"num_key_value_heads": 4}, **MLA),
    "mamba": lambda: architectures.MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, eos_token_id=2),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_save_pretrained_writes_is_loaded_as_it_was(family: str, tmp_path: Path) -> None:
    folder = saved_random(tmp_path, FAMILIES[family]())
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    found = load(ModelSpec(folder, device="cpu"))[0].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    check_model(folder)


def renamed(before: str, after: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name.replace(before, after, 1): value for name, value in weights.items()}


def with_head(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return weights | {"v_head.summary.weight": torch.zeros(1, 32), "v_head.summary.bias": torch.zeros(1)}


BROKEN: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "a prefix of torch's wrappers": (
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        r"module\.lm_head\.weight, .* and \d+ more\): a trainer left the prefix 'module\.' in the names",
    ),
    "a prefix of torch.compile": (
        lambda weights: {f"_orig_mod.{name}": value for name, value in weights.items()},
        r"a trainer left the prefix '_orig_mod\.'",
    ),
    "a prefix of peft": (
        lambda weights: {f"base_model.model.{name}": value for name, value in weights.items()},
        r"a trainer left the prefix 'base_model\.model\.'",
    ),
    "an adapter that was not merged": (
        lambda weights: {
            **{name: value for name, value in weights.items() if "q_proj" not in name},
            **{name.replace("weight", "base_layer.weight"): v for name, v in weights.items() if "q_proj" in name},
            **{
                name.replace("weight", "lora_A.weight"): v[:4].clone()
                for name, v in weights.items()
                if "q_proj" in name
            },
        },
        r"self_attn\.q_proj\.base_layer\.weight.*call merge_and_unload\(\)",
    ),
    "a value head": (with_head, r"2 weights have no place in the model \(v_head\.summary\.bias.*reward model"),
    "half the layers": (
        lambda weights: {name: value for name, value in weights.items() if ".layers.1." not in name},
        r"9 weights of the model are missing \(model\.layers\.1\..* and 6 more\): layers 1 to 1 are not whole",
    ),
    "no head": (
        lambda weights: {name: value for name, value in weights.items() if name != "lm_head.weight"},
        r"1 weights of the model are missing \(lm_head\.weight\): the checkpoint is not whole",
    ),
    "quantised weights": (
        lambda weights: {
            name.replace("q_proj.weight", "q_proj.qweight"): value.to(torch.int32) if "q_proj" in name else value
            for name, value in weights.items()
        },
        r"q_proj\.qweight.*its weights are quantised",
    ),
    "biases that the config denies": (
        lambda weights: weights | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)},
        r"1 weights have no place in the model \(model\.layers\.0\.self_attn\.q_proj\.bias\)",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_weights_that_do_not_fit_are_refused_with_names_and_cause(
    fault: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, message = BROKEN[fault]
    folder = rewritten(save_random_llama(tmp_path), change)
    for read in (load, check_model):
        with pytest.raises(ModelError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)
    assert "REPORT" not in capfd.readouterr().err  # transformers' table of the same


def test_a_config_of_another_size_is_refused_with_both_shapes(tmp_path: Path) -> None:
    folder = configured(save_random_llama(tmp_path), intermediate_size=48)
    with pytest.raises(ModelError, match=r"6 weights have another shape \(.*down_proj\.weight: 32×64, not 32×48\)"):
        load(ModelSpec(folder, device="cpu"))


def test_a_config_with_fewer_layers_is_refused(tmp_path: Path) -> None:
    folder = configured(save_random_llama(tmp_path), num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"config\.json has fewer layers or parts than the weights"):
        load(ModelSpec(folder, device="cpu"))


def test_a_head_that_differs_from_the_embeddings_it_is_tied_to_is_refused(tmp_path: Path) -> None:
    folder = saved_random(tmp_path, FAMILIES["llama, tied"]())
    embeddings = "model.embed_tokens.weight"
    rewritten(folder, lambda weights: weights | {"lm_head.weight": weights[embeddings].clone()})
    load(ModelSpec(folder, device="cpu"))  # the same values, as pickled checkpoints have them
    rewritten(folder, lambda weights: weights | {"lm_head.weight": weights[embeddings] + 1})
    with pytest.raises(ModelError, match=r"ties lm_head\.weight to the embeddings, .*: set tie_word_embeddings: false"):
        load(ModelSpec(folder, device="cpu"))
    load(ModelSpec(configured(folder, tie_word_embeddings=False), device="cpu"))


def test_names_and_buffers_of_old_checkpoints_are_understood(tmp_path: Path) -> None:
    folder = saved_random(tmp_path, FAMILIES["gpt2"]())
    expected = load(ModelSpec(folder, device="cpu"))[0].state_dict()
    old = {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    rewritten(folder, lambda weights: {k.removeprefix("transformer."): v for k, v in weights.items()} | old)
    found = load(ModelSpec(folder, device="cpu"))[0].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_lost_expert_is_refused(tmp_path: Path) -> None:
    folder = saved_random(tmp_path, FAMILIES["mixtral"]())
    rewritten(folder, lambda weights: {name: value for name, value in weights.items() if "experts.2.w1" not in name})
    with pytest.raises(ModelError, match="its weights do not fit together: some of the experts"):
        load(ModelSpec(folder, device="cpu"))


def test_a_reward_model_is_no_language_model(tmp_path: Path) -> None:
    folder = save_random_llama(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"score\.weight.*it is a reward model or classifier"):
        load(ModelSpec(folder, device="cpu"))


def test_layers_for_more_tokens_ahead_and_old_buffers_are_left_out_without_a_word(tmp_path: Path) -> None:
    config = FAMILIES["deepseek_v3"]()
    folder = configured(saved_random(tmp_path, config), num_nextn_predict_layers=1)
    rewritten(
        folder,
        lambda weights: (
            weights
            | {"model.layers.2.eh_proj.weight": torch.zeros(4, 4), "model.mtp.0.norm.weight": torch.zeros(4)}
            | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}
        ),
    )
    load(ModelSpec(folder, device="cpu"))


def test_weights_of_images_may_be_left_out_of_a_text_model(tmp_path: Path) -> None:
    folder = rewritten(
        save_random_llama(tmp_path),
        lambda weights: weights | {"vision_tower.patch_embedding.weight": torch.zeros(4, 4)},
    )
    load(ModelSpec(folder, device="cpu"))
