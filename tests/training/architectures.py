"""Small random models of many architectures, as folders that transformers loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tests.training.conftest import END, VOCABULARY

PLAIN: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": END,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    **PLAIN, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_shared_experts": 1, "n_group": 2,
    "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
LATENT: dict[str, Any] = {
    **{name: value for name, value in EXPERTS.items() if name != "head_dim"}, "num_key_value_heads": 4,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
}  # fmt: skip
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "eos_token_id": END}
STATES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
HEADS = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}

# By a name of our own, which begins with the model type.
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": PLAIN,
    "qwen3": PLAIN,
    "gemma2": {**PLAIN, "sliding_window": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 0.5},
    "granite": {**PLAIN, "logits_scaling": 2.0},
    "cohere2": {**PLAIN, "sliding_window": 8},
    "seed_oss": {**PLAIN, "attention_dropout": 0.3, "residual_dropout": 0.3},
    "phi": {**PLAIN, "embd_pdrop": 0.3, "resid_pdrop": 0.3, "attention_dropout": 0.3},
    "gpt2": {**GPT2, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "gpt_bigcode": {**GPT2, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "gpt_neo": {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 128,
        "attention_types": [[["global", "local"], 1]], "window_size": 8,
    },
    "opt": {
        **HEADS, "ffn_dim": 48, "max_position_embeddings": 128, "word_embed_proj_dim": 32, "dropout": 0.5,
        "attention_dropout": 0.5, "pad_token_id": 0, "bos_token_id": END, "eos_token_id": END,
    },
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.5},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "falcon-alibi": {**HEADS, "alibi": True, "new_decoder_architecture": False, "hidden_dropout": 0.5},
    "mamba": STATES,
    "bamba": {**PLAIN, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1]},
    "zamba": {
        **PLAIN, "num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_key_value_heads": 4, "use_mamba_kernels": False,
    },
    "recurrent_gemma": {**PLAIN, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    "mixtral": {**EXPERTS, "router_jitter_noise": 0.2},
    "qwen2_moe": EXPERTS,
    "qwen3_moe": EXPERTS,
    "olmoe": EXPERTS,
    "phimoe": EXPERTS,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "llama4_text": {**EXPERTS, "intermediate_size_mlp": 48, "attention_chunk_size": 8, "num_experts_per_tok": 1},
    "granitemoe": EXPERTS,
    "gpt_oss": {**EXPERTS, "sliding_window": 8},
    "jamba": {
        **EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
}  # fmt: skip


def small_model(name: str, **changes: Any) -> Any:
    """Return a random model of two or three layers, with weights so large that context and experts matter."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.for_model(name.split("-")[0], **{**SETTINGS[name], **changes})
    if hasattr(config, "initializer_range"):
        config.initializer_range = 0.2
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modules of transformers that use what torch deprecates
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


class WrappedLlama(torch.nn.Module):
    """A small Llama as `inner`, in a module whose forward the subclass of a test writes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_model("llama")
        self.config, self.device = self.inner.config, self.inner.device


def write_model(model: Any, folder: Path, *, tokenizer_of: Path) -> Path:
    """Write a model with the tokenizer of another folder."""
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder
