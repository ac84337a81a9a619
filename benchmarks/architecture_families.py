"""The families of benchmarks/architectures.py: how each is built small, with random weights that matter.

Imports star_rft.models: the tokenizer of the tiny model, which the small models get.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from star_rft.models import ASSETS

ENDS = tuple(f"<|end_{i}|>" for i in range(24))  # enough that random weights often write one
SEED = 7
SPREAD = 0.2  # standard deviation of a weight: at 0.02 attention is uniform, and an error in it is not seen
WINDOW = 24  # shorter than the sequences

# Sizes by the name of the field: a config takes those that it has.
SMALL: dict[str, Any] = {
    "vocab_size": 0,  # that of the tokenizer
    "vocab_size_per_layer_input": 0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embed_dim", "mamba_d_ssm", "lru_width"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "intermediate_size_mlp", "dff"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "kv_channels", "v_head_dim", "qk_nope_head_dim", "query_pre_attn_scalar"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 32),
    **dict.fromkeys(("expert_ffn_hidden_size", "moe_shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 16),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "index_head_dim", "mamba_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim", "hidden_size_per_layer_input", "laurel_rank"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 4),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size"), 16),
    "sliding_window": None,
    "rope_interleave": True,
    # Dropout is on for preference training alone (`Family.dropout`): elsewhere it would hide an error.
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "emb_pdrop", "dropout", "attention_dropout"), 0.0),
    **dict.fromkeys(("residual_dropout", "hidden_dropout", "hidden_dropout_prob", "activation_dropout"), 0.0),
    **dict.fromkeys(("attention_probs_dropout_prob", "router_jitter_noise", "summary_first_dropout"), 0.0),
    # Images and sound are read by nothing here.
    **dict.fromkeys(("image_size", "crop_size", "projection_dim"), 32),
    **dict.fromkeys(("patch_size", "num_position_embeddings", "position_embedding_size"), 16),
    **dict.fromkeys(("out_hidden_size", "output_proj_dims", "projector_input_dim", "projector_output_dim"), 64),
    **dict.fromkeys(("ext_pw_out_channel", "depthwise_separable_out_channel", "nemo_conv_channels"), 64),
    **dict.fromkeys(("num_blocks", "num_global_layers"), 1),
}
CLIP = {"model_type": "clip_vision_model"}
SIGLIP = {"model_type": "siglip_vision_model"}
PIXTRAL = {"model_type": "pixtral"}
NOWHERE = 1_000_000  # the id of an image token that no text holds


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model. `options` are fields of its config, `dropout` those that preference training switches off.

    `attention` is that implementation of transformers' which computes what the model is.
    """

    name: str
    model_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dropout: Sequence[str] = ()
    attention: str = "eager"


def family(
    name: str, model_type: str | None = None, dropout: str = "", attention: str = "eager", **options: Any
) -> Family:
    return Family(name, model_type or name.replace("-", "_"), options, tuple(dropout.split()), attention)


def layers(*kinds: str) -> dict[str, Any]:
    """Return the fields of a model with layers of these kinds, one each: `s` slides, `f` is full, `l` is linear."""
    names = {"s": "sliding_attention", "f": "full_attention", "l": "linear_attention", "c": "chunked_attention"}
    return {"num_hidden_layers": len(kinds), "layer_types": [names.get(kind, kind) for kind in kinds]}


SLIDES = {**layers("s", "f"), "sliding_window": WINDOW}
CHUNKS = {"attention_chunk_size": WINDOW, "moe_layers": [1], "no_rope_layers": [1, 0], **layers("c", "f")}
LONG_ROPE = {
    "original_max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
        "short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [2.0 + i for i in range(8)],
    },
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LATENT = {"num_key_value_heads": 4}  # each head has keys of its own, made from one latent vector
MATFORMER = {
    "num_kv_shared_layers": 2, "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    "sliding_window": WINDOW, "altup_num_inputs": 2, **layers("s", "f", "s", "f"),
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}

FAMILIES: tuple[Family, ...] = (
    # Dense decoders with full attention.
    family("llama"),
    family("llama-3", "llama", rope_parameters=LLAMA3_ROPE, num_key_value_heads=1),
    family("llama-yarn", "llama", rope_parameters=YARN),
    family("mistral"),
    family("ministral-3", "ministral3"),
    family("qwen2"),
    family("qwen3"),
    family("gemma"),
    family("phi", dropout="resid_pdrop embd_pdrop attention_dropout", rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}),
    family("phi3", dropout="resid_pdrop embd_pdrop attention_dropout"),
    family("gpt2", dropout="resid_pdrop embd_pdrop attn_pdrop"),
    family("gpt-neox", dropout="attention_dropout hidden_dropout"),
    family("gptj", dropout="resid_pdrop embd_pdrop attn_pdrop"),
    family("gpt-bigcode", dropout="resid_pdrop embd_pdrop attn_pdrop"),
    family("codegen", dropout="resid_pdrop embd_pdrop attn_pdrop"),
    family("openai-gpt", "openai-gpt", dropout="resid_pdrop embd_pdrop attn_pdrop"),
    family("opt", dropout="dropout attention_dropout", word_embed_proj_dim=64),
    family("biogpt", dropout="hidden_dropout_prob attention_probs_dropout_prob"),
    family("xglm", dropout="dropout attention_dropout"),
    family("stablelm", dropout="hidden_dropout attention_dropout"),
    family("starcoder2", dropout="residual_dropout attention_dropout"),
    family("cohere", logit_scale=1.0, use_qk_norm=True),
    family("olmo", clip_qkv=1.0),
    family("olmo2"),
    family("granite", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5, attention_multiplier=0.2),
    family("glm"),
    family("glm4"),
    family("smollm3", num_hidden_layers=4, no_rope_layer_interval=2),
    family("seed-oss", dropout="attention_dropout residual_dropout"),
    family("ernie4.5", "ernie4_5"),
    family("hunyuan-dense", "hunyuan_v1_dense"),
    family("nemotron"),
    family("helium"),
    family("persimmon", dropout="hidden_dropout attention_dropout"),
    family("arcee"),
    family("apertus"),
    family("bitnet"),
    family("nanochat"),
    family("hyperclovax", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5),
    family("falcon-rotary", "falcon", dropout="hidden_dropout attention_dropout"),
    family("falcon-new-decoder", "falcon", new_decoder_architecture=True, num_kv_heads=2),
    family("diffllama"),
    family("doge"),
    # Windows, soft caps and sinks, with windows shorter than the sequences.
    family("mistral-window", "mistral", sliding_window=WINDOW),
    family("starcoder2-window", "starcoder2", sliding_window=WINDOW),
    family("phi3-window", "phi3", sliding_window=WINDOW),
    family("ministral", **SLIDES),
    family("qwen2-window", "qwen2", use_sliding_window=True, max_window_layers=1, sliding_window=WINDOW),
    family("gpt-neo", attention_types=[[["global", "local"], 1]], window_size=WINDOW),
    family("gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **SLIDES),
    family("gemma3-text", "gemma3_text", **SLIDES),
    family("vaultgemma", attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **SLIDES),
    family("cohere2", logit_scale=1.0, **SLIDES),
    family("olmo3", **SLIDES),
    family("exaone4", **SLIDES),
    family("cwm", **SLIDES),
    family("modernbert-decoder", "modernbert-decoder", local_attention=2 * WINDOW, **layers("s", "f")),
    family("gpt-oss", **SLIDES),
    # Rope factors that depend on the length of the sequence.
    family("phi3-longrope", "phi3", **LONG_ROPE),
    # Positions that are no rotation of the keys.
    family("bloom", dropout="hidden_dropout attention_dropout"),
    family("mpt", attn_config={"attn_pdrop": 0}),
    family("falcon-alibi", "falcon", attention="sdpa", alibi=True),  # transformers' eager one adds ALiBi twice
    # Keys and values shared between layers, or extra inputs of each layer.
    family("gemma3n-text", "gemma3n_text", **MATFORMER),
    family("gemma4-text", "gemma4_text", **SLIDES),
    family("gemma4-shared", "gemma4_text", num_kv_shared_layers=2, sliding_window=WINDOW, **layers("s", "f", "s", "f")),
    # Mixture of experts.
    family("mixtral"),
    family("qwen2-moe"),
    family("qwen3-moe"),
    family("olmoe"),
    family("flex-olmo"),
    family("phimoe", dropout="attention_dropout"),
    family("granitemoe", embedding_multiplier=3.0, logits_scaling=2.0, attention_multiplier=0.2),
    family("granitemoe-shared", "granitemoeshared"),
    family("dbrx", attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}, ffn_config={
        "ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2}),
    family("glm4-moe"),
    family("ernie4.5-moe", "ernie4_5_moe"),
    family("hunyuan-moe", "hunyuan_v1_moe"),
    family("dots1"),
    family("minimax-m2"),
    family("jetmoe"),
    family("llama4-text", "llama4_text", **CHUNKS),
    family("afmoe", **SLIDES),
    family("solar-open"),
    family("exaone-moe", **SLIDES),
    family("cohere2-moe", logit_scale=1.0, **SLIDES),
    family("mimo-v2-flash", **SLIDES),
    family("mellum", **SLIDES),
    family("gemma4-moe", "gemma4_text", enable_moe_block=True, top_k_experts=2, **SLIDES),
    # Latent attention.
    family("deepseek-v2", **LATENT),
    family("deepseek-v3", **LATENT),
    family("deepseek-v3.2", "deepseek_v32", **LATENT),
    family("deepseek-v4", num_key_value_heads=1, o_groups=2, index_topk=16, sliding_window=WINDOW),
    family("glm4-moe-lite", **LATENT),
    family("glm-moe-dsa", **LATENT),
    family("mistral4", **LATENT),
    family("minicpm3", **LATENT),
    family("youtu", **LATENT),
    family("longcat-flash", num_layers=1, zero_expert_num=2, **LATENT, head_dim=8),
    # Recurrent and hybrid.
    family("mamba"),
    family("mamba2", num_heads=8, head_dim=16, n_groups=2),
    family("falcon-mamba"),
    family("falcon-h1", mamba_n_heads=4, mamba_d_head=16),
    family("bamba", mamba_n_heads=8, mamba_d_head=16, attn_layer_indices=[1]),
    family("jamba", attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False),
    family("zamba", num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
           num_key_value_heads=4, use_mamba_kernels=False),
    family("zamba2", num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
           n_mamba_heads=8, num_key_value_heads=4, adapter_rank=8, num_mem_blocks=1),
    family("nemotron-h", layers_block_type=["mamba", "attention", "mlp"], mamba_num_heads=8, n_groups=2),
    family("nemotron-3", "nemotron_h", layers_block_type=["mamba", "attention", "moe"], mamba_num_heads=8, n_groups=2),
    family("granitemoe-hybrid", "granitemoehybrid", layer_types=["mamba", "attention"], mamba_n_heads=8,
           mamba_d_head=16),
    family("recurrent-gemma", num_hidden_layers=3, attention_window_size=WINDOW),
    family("rwkv"),
    family("xlstm", num_heads=2, chunk_size=16, qk_dim_factor=1.0),
    family("lfm2", **layers("conv", "f")),
    family("lfm2-moe", num_dense_layers=1, **layers("conv", "f")),
    family("qwen3-next", **layers("l", "f")),
    family("qwen3.5-text", "qwen3_5_text", **layers("l", "f")),
    family("qwen3.5-moe-text", "qwen3_5_moe_text", **layers("l", "f")),
    family("olmo-hybrid", **layers("l", "f")),
    family("minimax", block_size=16, **layers("l", "f")),
    family("kimi-linear", linear_head_dim=16, linear_num_heads=4, **LATENT, **layers("l", "f")),
    # Text parts of multimodal models.
    family("gemma3", text_config=SLIDES),
    family("gemma4", text_config=SLIDES),
    family("qwen2-vl", text_config={"rope_parameters": MROPE}),
    family("qwen2.5-vl", "qwen2_5_vl", text_config={"rope_parameters": MROPE}),
    family("qwen3-vl", text_config={"rope_parameters": MROPE}),
    family("qwen3-vl-moe", text_config={"rope_parameters": MROPE}),
    family("qwen3.5", "qwen3_5", text_config=layers("l", "f")),
    family("qwen3.5-moe", "qwen3_5_moe", text_config=layers("l", "f")),
    family("glm4v", text_config={"rope_parameters": MROPE}),
    family("llava", text_config={"model_type": "llama"}, vision_config=CLIP, image_token_index=NOWHERE),
    family("mistral3", text_config={"model_type": "mistral"}, vision_config=PIXTRAL, image_token_index=NOWHERE),
    family("internvl", text_config={"model_type": "qwen2"}, image_token_id=NOWHERE),
    family("smolvlm", text_config={"model_type": "llama"}, image_token_id=NOWHERE),
    family("paligemma", text_config={"model_type": "gemma"}, vision_config=SIGLIP, image_token_index=NOWHERE),
    family("llama4", vision_config={"vision_output_dim": 64}, text_config=CHUNKS),
    family("phi4-multimodal"),
    family("fuyu", text_config={"model_type": "persimmon"}),
    family("mllama", text_config={"num_hidden_layers": 3, "cross_attention_layers": [1]}),
    # An encoder and a decoder.
    family("t5"),
)  # fmt: skip


def tokenizer_in(folder: Path) -> Any:
    """Write star-rft's tiny tokenizer with the end tokens of these models beside a config, and load it again.

    transformers may then make another one of it: the config says of which class it is.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(ASSETS / "tiny")
    tokenizer.add_special_tokens({"additional_special_tokens": list(ENDS)})
    tokenizer.save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def settings(config: type[Any], given: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Return the small sizes of a config class and of the configs inside it, under the given ones."""
    names = {one.name for one in dataclasses.fields(config)}
    sizes = {name: value for name, value in SMALL.items() if name in names}
    sizes |= dict.fromkeys(names & {"vocab_size", "vocab_size_per_layer_input"}, tokens)
    inside: dict[str, Any] = {}
    for name, kind in config.sub_configs.items():
        its = given.get(name, {})
        kind = transformers.CONFIG_MAPPING[its["model_type"]] if "model_type" in its else kind
        inside[name] = settings(kind, its, tokens)
    return {**sizes, **given, **inside}


def auto_class(config: Any) -> Any:
    """Return the class of transformers that loads a model of this config whole, images included."""
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


@torch.no_grad()
def spread(model: Any) -> None:
    """Draw the weights anew, so large that every part of the model decides what it writes.

    Those that a family sets to special values (decays of a state space) stay; vectors get noise.
    """
    generator = torch.Generator().manual_seed(SEED)
    embeddings = model.get_input_embeddings().weight
    tied = model.get_output_embeddings() is not None and model.get_output_embeddings().weight is embeddings
    for parameter in model.parameters():
        noise = torch.empty(parameter.shape).normal_(0.0, SPREAD, generator=generator)
        if parameter.ndim < 2:
            parameter.add_(noise / 2)
        elif float(parameter.std()) < SPREAD:
            # A large embedding that is also the head would only repeat the last token.
            parameter.copy_(noise / 4 if tied and parameter is embeddings else noise)


def save(one: Family, folder: Path) -> None:
    """Write the small model of a family, with its tokenizer, as a published one is."""
    torch.manual_seed(SEED)
    kind = transformers.CONFIG_MAPPING[one.model_type]
    kind(**settings(kind, one.options, 1)).save_pretrained(folder)
    tokenizer = tokenizer_in(folder)
    config = kind(**settings(kind, one.options, len(tokenizer)))
    model = auto_class(config).from_config(config, dtype=torch.float32, attn_implementation="eager")
    spread(model)
    ends = [tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(ENDS))]
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, eos_token_id=ends
    )
    model.save_pretrained(folder)


def with_dropout(one: Family, folder: Path) -> None:
    """Switch the dropout of a saved family on, as its published checkpoints have it."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict.fromkeys(one.dropout, 0.1)))


def plain(folder: Path, attention: str = "eager") -> Any:
    """Load a saved family with transformers alone: what everything is compared with."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = auto_class(config).from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    return model.eval()
