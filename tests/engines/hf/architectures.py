"""Configurations of small models: the architectures that the hf engine draws exactly, and those that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.gptj import modeling_gptj

WINDOW = 8
SIZES: dict[str, Any] = {
    "vocab_size": 33,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 128,
}
DENSE: dict[str, Any] = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
SLIDES: dict[str, Any] = {**DENSE, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
LATENT: dict[str, Any] = {
    **DENSE,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
}
EXACT: dict[str, dict[str, Any]] = {
    "llama": DENSE,
    "mistral": {**DENSE, "sliding_window": WINDOW},
    "qwen2": {**DENSE, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "qwen3": DENSE,
    "qwen3_moe": {**DENSE, **EXPERTS, "moe_intermediate_size": 16},
    "mixtral": {**DENSE, **EXPERTS, "sliding_window": WINDOW},
    "gemma2": {**SLIDES, "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SLIDES, "query_pre_attn_scalar": 8},
    "gemma4_text": {
        **SLIDES,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,  # the last two layers attend to keys of the first two
        "vocab_size_per_layer_input": 33,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 8,
    },
    "gpt_oss": {**SLIDES, **EXPERTS},
    "granite": {**DENSE, "attention_multiplier": 0.7, "residual_multiplier": 0.5},
    "cohere2": SLIDES,
    "olmo3": SLIDES,
    "phi3": {**DENSE, "sliding_window": WINDOW},
    "starcoder2": {**DENSE, "sliding_window": WINDOW},
    "exaone4": SLIDES,
    "smollm3": DENSE,
    "glm4": DENSE,
    "llama4_text": {
        **DENSE,
        **EXPERTS,
        "layer_types": ["chunked_attention", "full_attention"],
        "attention_chunk_size": WINDOW,
        "no_rope_layers": [1, 0],
    },
    "gpt2": {**SIZES, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neox": DENSE,
    "opt": {**DENSE, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
FALCON: dict[str, Any] = {**SIZES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bloom": ({**SIZES, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "attention interface"),
    "mpt": ({**SIZES, "d_model": 32, "n_layers": 2, "n_heads": 4}, "attention interface"),
    "falcon": (
        {**SIZES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
        "attention interface",
    ),
    "mamba": ({**SIZES, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}, "LinearAttentionLayer"),
    "lfm2": ({**DENSE, "layer_types": ["conv", "full_attention"]}, "LinearAttentionLayer"),
    "rwkv": ({**SIZES, "hidden_size": 32, "num_hidden_layers": 2}, "recurrent"),
    "deepseek_v3": (LATENT, "latent attention"),
    "doge": (DENSE, "a mask of its own"),
    "bart": ({**SIZES, "d_model": 32, "decoder_layers": 2, "is_encoder_decoder": False}, "no position_ids"),
}
# Only newer versions of transformers let GPT-J's attention be chosen.
GPTJ: dict[str, Any] = {**SIZES, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "rotary_dim": 8}
if hasattr(modeling_gptj, "ALL_ATTENTION_FUNCTIONS"):
    EXACT["gptj"] = GPTJ
else:
    REFUSED["gptj"] = (GPTJ, "attention interface")


def random_model(model_type: str, fields: Mapping[str, Any]) -> PreTrainedModel:
    torch.manual_seed(7)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
            else:  # sinks, norms, biases
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()
