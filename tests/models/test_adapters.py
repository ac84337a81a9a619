"""An adapter as a model: merged once into its base, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from star_rft.models import ModelError, check_model, load, load_tokenizer, resolve
from star_rft.models.adapters import base_of
from star_rft.models.spec import ModelSpec
from tests.small_models import character_tokenizer, save_random_llama


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = save_random_llama(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def adapter_of(base: Path, folder: Path, *, seed: int = 0, dtype: Any = torch.bfloat16, **options: Any) -> Any:
    """Save an adapter with random weights; return the model that has it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM", **options)
    wrapped = get_peft_model(model, config)
    wrapped.save_pretrained(str(folder))
    return wrapped


def test_an_adapter_is_merged_once_in_the_dtype_of_its_base(base: Path, tmp_path: Path) -> None:
    expected = adapter_of(base, tmp_path / "adapter").merge_and_unload().state_dict()
    check_model(tmp_path / "adapter")
    merged = resolve(tmp_path / "adapter", into=tmp_path / "run" / "base")
    assert merged == tmp_path / "run" / "base"
    stamp = (tmp_path / "run" / "base" / "model.safetensors").stat().st_mtime_ns
    assert resolve(str(tmp_path / "adapter"), into=tmp_path / "run" / "base") == merged
    assert (tmp_path / "run" / "base" / "model.safetensors").stat().st_mtime_ns == stamp

    found = load_file(tmp_path / "run" / "base" / "model.safetensors")
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    before = load_file(base / "model.safetensors")
    assert found.keys() == before.keys()
    embeddings: Any = load(ModelSpec(merged, device="cpu"))[0].get_input_embeddings()
    assert not torch.equal(before["lm_head.weight"], embeddings.weight)
    assert load_tokenizer(merged).get_vocab() == load_tokenizer(base).get_vocab()
    # Generation settings that transformers finds inconsistent are kept too.
    assert json.loads((tmp_path / "run" / "base" / "generation_config.json").read_text())["top_k"] == 2


def test_another_adapter_in_the_same_place_is_noticed(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    resolve(tmp_path / "adapter", into=tmp_path / "made")
    shutil.rmtree(tmp_path / "adapter")
    adapter_of(base, tmp_path / "adapter", seed=1)
    with pytest.raises(
        ModelError, match=r"made exists and was not made from the adapter .*: remove it or choose another"
    ):
        resolve(tmp_path / "adapter", into=tmp_path / "made")


def test_the_tokenizer_of_the_adapter_goes_before_that_of_the_base(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    tokenizer = character_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert (
        load(ModelSpec(resolve(tmp_path / "adapter", into=tmp_path / "made"), device="cpu"))[1].chat_template
        is not None
    )


def test_an_adapter_with_tokens_of_its_own_widens_the_embedding(base: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<think>"])
    model.resize_token_embeddings(len(tokenizer))
    wrapped = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    wrapped.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "adapter")
    merged, merged_tokenizer = load(ModelSpec(resolve(tmp_path / "adapter", into=tmp_path / "made"), device="cpu"))
    embeddings: Any = merged.get_input_embeddings()
    assert embeddings.weight.shape[0] == len(merged_tokenizer) == 34


def test_a_config_of_the_base_beside_the_adapter_changes_nothing(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    shutil.copy(base / "config.json", tmp_path / "adapter")
    load(ModelSpec(resolve(tmp_path / "adapter", into=tmp_path / "made"), device="cpu"))


def test_a_base_beside_the_adapter_is_found_by_its_relative_name(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    rewrite(tmp_path / "adapter", base_model_name_or_path="../base")
    load(ModelSpec(resolve(tmp_path / "adapter", into=tmp_path / "made"), device="cpu"))


def test_a_relative_name_that_leads_to_two_models_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter_of(base, tmp_path / "adapter")
    rewrite(tmp_path / "adapter", base_model_name_or_path="../base")
    other = tmp_path / "elsewhere" / "base"
    other.mkdir(parents=True)
    (tmp_path / "elsewhere" / "here").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere" / "here")
    assert base_of("adapter", tmp_path / "adapter") == base  # the other folder holds no model
    shutil.copy(base / "config.json", other)
    refused(tmp_path / "adapter", rf"its base model \.\./base may be {base} or {other}: set base_model_name_or_path")


def rewrite(adapter: Path, **values: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(adapter: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        resolve(adapter, into=adapter.parent / "made")
    assert "\n" not in str(error.value)
    assert not (adapter.parent / "made").exists()


def test_a_base_that_is_not_here_is_named(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    rewrite(tmp_path / "adapter", base_model_name_or_path="/nowhere/base")
    refused(tmp_path / "adapter", r"its base model /nowhere/base is not on this machine: set base_model_name_or_path")
    rewrite(tmp_path / "adapter", base_model_name_or_path=None)
    refused(tmp_path / "adapter", r"names no base_model_name_or_path")


def test_a_quantised_base_is_refused(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    file = base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "awq"}}))
    refused(tmp_path / "adapter", r"the base model of the adapter .* is quantised \(awq\)")
    with pytest.raises(ModelError, match=r"the base model of the adapter .* is quantised \(awq\)"):
        check_model(tmp_path / "adapter")


def test_an_adapter_that_cannot_be_merged_is_refused(base: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(model, prompt).save_pretrained(str(tmp_path / "adapter"))
    refused(tmp_path / "adapter", r"is an adapter of type PROMPT_TUNING, which no weights can be merged with")
    rewrite(tmp_path / "adapter", peft_type="NEW_TYPE")
    refused(tmp_path / "adapter", "NEW_TYPE")


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "layers.1." not in name}, file)
    refused(tmp_path / "adapter", r"\d+ weights of the adapter and of the base model do not meet \(.*layers\.1\.")
    save_file({name: value[..., :16].clone() for name, value in weights.items()}, file)
    refused(tmp_path / "adapter", "cannot load its adapter")
    file.unlink()
    refused(tmp_path / "adapter", r"an adapter without weights")


def test_an_adapter_is_no_model_for_the_loader(base: Path, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    with pytest.raises(
        ModelError, match=r"is an adapter \(adapter_config\.json\), not a model: give it as model\.name"
    ):
        load(tmp_path / "adapter")
    shutil.copytree(base, tmp_path / "adapter", dirs_exist_ok=True)
    with pytest.raises(ModelError, match=r"holds a model and an adapter"):
        load(tmp_path / "adapter")


def test_an_adapter_of_the_hub_is_merged_from_its_cache(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "cache" / "models--org--lora"
    adapter_of(base, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load(ModelSpec(resolve("org/lora", into=tmp_path / "made"), device="cpu"))
    assert resolve("org/other", into=tmp_path / "none") == "org/other"
