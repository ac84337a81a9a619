"""The text part of a multimodal model is sampled and trained by text alone; its other weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM, PreTrainedConfig
from transformers import models as architectures

from star_rft.models import ModelError, check_model, initialise, load, longest_sequence, text_config
from star_rft.models.spec import ModelSpec
from star_rft.training.memory import shape_of
from tests.models.checkpoints import SIZES, configured
from tests.small_models import character_tokenizer, saved
from tests.tiers import fast_only

TEXT: dict[str, Any] = SIZES | {"head_dim": 8}
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
QWEN_VISION: dict[str, Any] = {
    "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
LLAMA4: dict[str, Any] = TEXT | {
    "intermediate_size_mlp": 64, "num_local_experts": 2, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
}  # fmt: skip
LLAMA4_VISION: dict[str, Any] = VISION | {
    "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
}  # fmt: skip
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "gemma3": lambda: architectures.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=5
    ),
    "qwen2_5_vl": lambda: architectures.Qwen2_5_VLConfig(
        text_config=SIZES | {"rope_parameters": MROPE}, vision_config=QWEN_VISION | {"fullatt_block_indexes": [0]}
    ),
    "qwen3_vl": lambda: architectures.Qwen3VLConfig(
        text_config=TEXT | {"rope_parameters": MROPE},
        vision_config=QWEN_VISION | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
    ),
    "mistral3": lambda: architectures.Mistral3Config(
        text_config=TEXT | {"model_type": "mistral"}, vision_config=VISION | {"model_type": "pixtral"}
    ),
    "llava": lambda: architectures.LlavaConfig(
        text_config=SIZES | {"model_type": "llama"}, vision_config=VISION | {"model_type": "clip_vision_model"}
    ),
    # transformers has a causal class for this config, which would leave the vision tower out.
    "llama4": lambda: architectures.Llama4Config(text_config=LLAMA4, vision_config=LLAMA4_VISION),
}


# Of these, some versions of transformers read an output that their text part does not give, with images or without.
EITHER = {"llama4"}


def is_computed(family: str) -> bool:
    """Whether the forward of transformers itself works by text; expected of all families but `EITHER`."""
    if family not in EITHER:
        return True
    model = AutoModelForMultimodalLM.from_config(FAMILIES[family]())
    try:
        model(input_ids=torch.tensor([[4, 5]]))
    except AttributeError:
        return False
    return True


def saved_random(folder: Path, config: PreTrainedConfig) -> Path:
    torch.manual_seed(0)
    return saved(AutoModelForMultimodalLM.from_config(config), folder)


@pytest.mark.parametrize("family", fast_only(FAMILIES, "gemma3"))
def test_text_alone_is_computed_and_trained_and_the_other_weights_stay(family: str, tmp_path: Path) -> None:
    if not is_computed(family):
        pytest.skip(f"this version of transformers cannot compute {family}")
    folder = saved_random(tmp_path / "base", FAMILIES[family]())
    check_model(folder)
    model, tokenizer = load(ModelSpec(folder, device="cpu"))
    ids_2_8 = torch.randint(4, 40, (2, 8), generator=torch.Generator().manual_seed(0))
    model.train()
    logits_2_8_V = model(input_ids=ids_2_8, attention_mask=torch.ones_like(ids_2_8), use_cache=False).logits
    assert logits_2_8_V.shape == (2, 8, text_config(model.config).vocab_size)
    logits_2_8_V.logsumexp(-1).sum().backward()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen
    # In DDP, a parameter that should be trained and has no gradient is an error.
    idle = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not {name for name in idle if "experts" not in name}
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model.save_pretrained(tmp_path / "trained")
    tokenizer.save_pretrained(tmp_path / "trained")

    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "trained"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    media = {name for name in before if "vision" in name or "visual" in name or "projector" in name}
    assert moved
    assert media
    assert not moved & media
    again = load(ModelSpec(tmp_path / "trained", device="cpu"))[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", fast_only(FAMILIES, "gemma3"))
def test_sizes_are_those_of_the_text_part(family: str, tmp_path: Path) -> None:
    if not is_computed(family):
        pytest.skip(f"this version of transformers cannot compute {family}")
    folder = saved_random(tmp_path / "base", FAMILIES[family]())
    shape = shape_of(folder)
    assert shape is not None
    assert (shape.layers, shape.width, shape.mlp_width, shape.vocabulary) == (2, 32, 64, 40)
    model, _ = load(ModelSpec(initialise(folder, into=tmp_path / "random", seed=1), device="cpu"))
    assert longest_sequence(model.config).tokens == 64
    assert shape.frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert load_file(tmp_path / "random" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


@pytest.mark.parametrize("family", sorted(EITHER))
def test_a_model_that_transformers_cannot_compute_is_refused_in_one_line(family: str, tmp_path: Path) -> None:
    if is_computed(family):
        pytest.skip(f"this version of transformers computes {family}")
    with pytest.raises(ModelError, match=rf"\({family}\) does not work by text alone: .* no attribute") as refused:
        load(ModelSpec(saved_random(tmp_path / "base", FAMILIES[family]()), device="cpu"))
    assert "\n" not in str(refused.value)


def test_the_text_part_alone_is_a_text_model(tmp_path: Path) -> None:
    config: Any = FAMILIES["gemma3"]()
    AutoModelForCausalLM.from_config(config.text_config).save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    model, _ = load(ModelSpec(tmp_path, device="cpu"))
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_that_takes_no_text_without_an_image_is_refused(tmp_path: Path) -> None:
    config: Any = architectures.BlipConfig(
        text_config=SIZES | {"bos_token_id": 1, "sep_token_id": 2}, vision_config=VISION, projection_dim=32
    )
    config.save_pretrained(tmp_path)
    configured(tmp_path, architectures=["BlipForConditionalGeneration"])
    torch.save({}, tmp_path / "pytorch_model.bin")
    for read in (load, check_model):
        with pytest.raises(ModelError, match=r"\(blip\) takes no text without pixel_values"):
            read(tmp_path)
