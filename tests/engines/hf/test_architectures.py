"""Small random models of many architectures: the hf engine draws `generate`'s tokens, or refuses in one line.

Weights have a standard deviation of 0.2 (transformers' own 0.02 gives uniform attention, in which no error shows),
windows are shorter than prompts and completions, and the reference is eager attention, one prompt at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from star_rft.engines.hf.batch import next_logits
from star_rft.engines.hf.sampler import HFSampler
from star_rft.engines.hf.slot_attention import ATTENTION
from star_rft.engines.hf.support import check_decodable, verify_decoding
from star_rft.models import ModelError, load
from star_rft.models.spec import ModelSpec
from star_rft.types import Decoding
from tests.engines.hf.architectures import DENSE, EXACT, REFUSED, WINDOW, random_model
from tests.engines.hf.requests import PROMPTS, greedy_by_generate, requests_for
from tests.small_models import saved
from tests.tiers import fast_only


@pytest.mark.parametrize("model_type", fast_only(EXACT, "gemma2", "gpt_oss", "llama4_text"))
def test_greedy_tokens_and_logprobs_are_those_of_generate_beyond_any_window(model_type: str, tmp_path: Path) -> None:
    model = random_model(model_type, EXACT[model_type])
    sampler = HFSampler(saved(model, tmp_path), batch_size=3)
    model.set_attn_implementation("eager")
    completions = list(sampler.sample(requests_for(PROMPTS, 1), decoding=Decoding(temperature=0, max_tokens=16)))
    assert max(len(one.token_ids) for one in completions) > WINDOW
    for one in completions:
        ids = sampler.tokenizer(one.request.prompt, add_special_tokens=False)["input_ids"]
        assert list(one.token_ids) == greedy_by_generate(model, ids, 16)
        with torch.no_grad():
            logits_T_V = model(input_ids=torch.tensor([[*ids, *one.token_ids]]), use_cache=False).logits[0]
        logprobs_T_V = logits_T_V[len(ids) - 1 : -1].double().log_softmax(-1)
        expected = sum(logprobs_T_V[t, token].item() for t, token in enumerate(one.token_ids))
        assert one.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("model_type", fast_only(REFUSED, "bloom", "mamba", "deepseek_v3"))
def test_what_the_cache_cannot_hold_is_refused_in_one_line(model_type: str, tmp_path: Path) -> None:
    fields, reason = REFUSED[model_type]
    folder = saved(random_model(model_type, fields), tmp_path)
    with pytest.raises(ModelError, match=reason) as without_weights:
        check_decodable(folder)
    with pytest.raises(ModelError, match="; use sample") as loaded:
        HFSampler(folder)
    assert "\n" not in str(without_weights.value) + str(loaded.value)


def test_a_model_that_can_be_decoded_is_not_refused_without_its_weights(tmp_path: Path) -> None:
    check_decodable(saved(random_model("gpt_oss", EXACT["gpt_oss"]), tmp_path))


def test_a_window_longer_than_the_compared_rows_is_as_exact(tmp_path: Path) -> None:
    model = random_model("mistral", {**DENSE, "sliding_window": 60})
    sampler = HFSampler(saved(model, tmp_path), batch_size=2)
    assert sampler.model.config.sliding_window == 60  # shorter during the comparison only
    model.set_attn_implementation("eager")
    for one in sampler.sample(requests_for(["a" * 55, "b" * 70], 1), decoding=Decoding(temperature=0, max_tokens=12)):
        ids = sampler.tokenizer(one.request.prompt, add_special_tokens=False)["input_ids"]
        assert list(one.token_ids) == greedy_by_generate(model, ids, 12)


def test_attention_that_scales_with_the_length_of_the_cache_limits_the_length(tmp_path: Path) -> None:
    # Llama 4 scales queries by the length of the cache, one number for rows of unequal length.
    fields = {**EXACT["llama4_text"], "attn_temperature_tuning": True, "floor_scale": 40}
    sampler = HFSampler(saved(random_model("llama4_text", fields), tmp_path))
    decoding = Decoding(temperature=0, max_tokens=20)
    with pytest.raises(ValueError, match=r"exceeds the 40 positions of the model \(beyond 40 its attention depends"):
        sampler.sample(requests_for(["a" * 21], 1), decoding=decoding)
    assert len(list(sampler.sample(requests_for(["a" * 20], 1), decoding=decoding))) == 1


def test_long_rope_stops_at_the_original_length(tmp_path: Path) -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
    }
    fields = {**DENSE, "rope_parameters": rope, "original_max_position_embeddings": 32}
    sampler = HFSampler(saved(random_model("phi3", fields), tmp_path))
    with pytest.raises(ValueError, match=r"exceeds the 32 positions of the model \(long rope"):
        sampler.sample(requests_for(["a" * 30], 1), decoding=Decoding(temperature=1.0, max_tokens=10))


def _rolled(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output + 0.01 * output.roll(1, dims=0)  # rows see each other, a little


def _not_a_number(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output * float("nan")


def _wrong_type(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    raise KeyError("what a model raises\nthat cannot take a cache")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(_rolled, "are not those of a plain forward"), (_not_a_number, "differ by nan"), (_wrong_type, "KeyError")],
)
def test_a_faulty_model_is_refused_with_the_reason(fault: Callable[..., torch.Tensor], reason: str) -> None:
    model = random_model("llama", DENSE)
    model.get_decoder().layers[0].mlp.register_forward_hook(fault)
    with pytest.raises(ModelError, match=f"^LlamaForCausalLM cannot be sampled by the hf engine.*{reason}") as refused:
        verify_decoding(model)
    assert "\n" not in str(refused.value)


def test_an_unknown_argument_of_attention_is_refused_by_its_name() -> None:
    model = random_model("llama", DENSE)
    for layer in model.get_decoder().layers:
        forward = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, _forward=forward, **kwargs: _forward(*args, **kwargs, indices=[1])
    with pytest.raises(ModelError, match="LlamaAttention passes 'indices' to its attention"):
        verify_decoding(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_comparison_leaves_weights_and_buffers_as_they_were(dtype: torch.dtype) -> None:
    model: Any = random_model("qwen3", DENSE)
    model.to(dtype)
    rotary: Any = model.get_decoder().rotary_emb
    rotary.inv_freq = rotary.original_inv_freq = rotary.compute_default_rope_parameters(model.config)[0]  # fp32
    before = {name: tensor.clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    verify_decoding(model)
    after = dict([*model.named_parameters(), *model.named_buffers()])
    assert rotary.inv_freq.dtype == torch.float32
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)


def test_a_small_error_is_seen_in_half_precision_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = random_model("qwen3", DENSE)
    model.to(torch.bfloat16)

    def slightly_wrong(*args: Any) -> torch.Tensor:
        logits = next_logits(*args)
        return logits + 0.002 * (logits.max() - logits.min()) * torch.randn_like(logits)  # less than bf16's rounding

    monkeypatch.setattr("star_rft.engines.hf.support.next_logits", slightly_wrong)
    with pytest.raises(ModelError, match="are not those of a plain forward"):
        verify_decoding(model)


@pytest.mark.parametrize("model_type", ["gemma2", "gpt_oss"])
def test_attention_of_a_long_prompt_is_the_same_in_blocks(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = random_model(model_type, EXACT[model_type])
    model.set_attn_implementation("eager")
    ids_2_T = torch.arange(5, 31).view(2, 13)
    monkeypatch.setattr("star_rft.engines.hf.slot_attention.QUERY_BLOCK", 5)
    with torch.no_grad():
        expected = model(input_ids=ids_2_T).logits
        model.set_attn_implementation(ATTENTION)
        torch.testing.assert_close(model(input_ids=ids_2_T).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", ["gemma2", "gpt_oss", "llama"])
def test_a_loaded_model_computes_all_of_its_attention(model_type: str, tmp_path: Path) -> None:
    model = random_model(model_type, EXACT[model_type])
    loaded, _ = load(ModelSpec(saved(model, tmp_path), device="cpu"))
    assert loaded.config._attn_implementation == ("sdpa" if model_type == "llama" else "eager")
    model.set_attn_implementation("eager")
    ids_1_T = torch.arange(5, 25)[None]
    with torch.no_grad():
        logits, expected = loaded(input_ids=ids_1_T).logits, model(input_ids=ids_1_T).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
