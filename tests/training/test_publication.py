"""A checkpoint is what its model's publisher wrote, with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from star_rft.errors import TrainingError
from star_rft.training.model import save_model
from star_rft.training.options import FitReport
from star_rft.training.publication import dtype_of
from tests.training.conftest import END, random_examples, random_preferences
from tests.training.fits import fit, fit_preferences

Train = Callable[..., FitReport]


@pytest.fixture
def half(base: Path, tmp_path: Path) -> Path:
    """The base in bfloat16."""
    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """`fit` with small defaults, from a folder into the folder `out`."""

    def run(model: Path, **changes: Any) -> FitReport:
        values: dict[str, Any] = {
            "model_path": model, "out_dir": tmp_path / "out", "work_dir": tmp_path / "work", "lr": 1e-3,
            "max_steps": 3, "batch_size": 8, "device": "cpu", **changes,
        }  # fmt: skip
        return fit(random_examples(20), **values)

    return run


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def dtypes(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}


def test_weights_are_published_in_the_dtype_of_the_base(train: Train, half: Path, base: Path, tmp_path: Path) -> None:
    for name, folder, dtype in (("b", half, torch.bfloat16), ("f", base, torch.float32)):
        train(folder, out_dir=tmp_path / name)
        assert dtypes(tmp_path / name) == {dtype}
        assert read(tmp_path / name / "config.json")["dtype"] == str(dtype).removeprefix("torch.")
    train(half, out_dir=tmp_path / "h", save_dtype="float16")
    assert dtypes(tmp_path / "h") == {torch.float16}
    assert read(tmp_path / "h" / "config.json")["dtype"] == "float16"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dtype": None, "torch_dtype": "float16"}, "float16"),
        ({"dtype": None, "text_config": {"dtype": "float16"}}, "float16"),
        ({"dtype": None}, "bfloat16"),
        ({"dtype": "float32"}, "float32"),
    ],
)
def test_the_config_names_the_dtype_of_a_base_and_else_its_weights_do(
    half: Path, change: dict[str, Any], expected: str
) -> None:
    content = read(half / "config.json") | change
    content = {name: value for name, value in content.items() if value is not None}
    (half / "config.json").write_text(json.dumps(content))
    assert dtype_of(half) == expected


def test_the_config_reads_as_its_publisher_wrote_it(train: Train, half: Path, tmp_path: Path) -> None:
    """In the words of an older transformers, which is what other engines read."""
    content = read(half / "config.json")
    rope = content.pop("rope_parameters")
    content |= {"rope_theta": rope["rope_theta"], "torch_dtype": content.pop("dtype"), "use_cache": True, "ours": [1]}
    (half / "config.json").write_text(json.dumps(content))
    train(half, gradient_checkpointing=True)
    assert read(tmp_path / "out" / "config.json") == content


def test_a_generation_config_is_kept_with_all_its_keys_and_gains_the_end_of_completions(
    train: Train, half: Path, tmp_path: Path
) -> None:
    content = {"do_sample": False, "temperature": 0.6, "top_k": 7, "eos_token_id": 2, "theirs": {"a": 1}}
    (half / "generation_config.json").write_text(json.dumps(content))
    train(half, save_steps=1, end_ids=(END, 2, 5))
    assert read(tmp_path / "out" / "generation_config.json") == {**content, "eos_token_id": [2, END, 5]}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.generation_config.eos_token_id == [2, END, 5]
    train(half, out_dir=tmp_path / "same", end_ids=(2,))
    assert read(tmp_path / "same" / "generation_config.json") == content


def test_a_model_without_a_generation_config_stops_where_completions_end(
    train: Train, half: Path, tmp_path: Path
) -> None:
    (half / "generation_config.json").unlink()
    train(half, end_ids=(END, 7))
    assert read(tmp_path / "out" / "generation_config.json")["eos_token_id"] == [END, 7]


def test_the_tokenizer_and_its_chat_template_are_kept(train: Train, half: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(half)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(half)
    train(half)
    saved = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert saved.chat_template == tokenizer.chat_template
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert saved.special_tokens_map == tokenizer.special_tokens_map


def test_small_updates_are_not_rounded_away_between_trainings(train: Train, half: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {"lr": 1e-6, "schedule": "constant", "warmup_ratio": 0.0}
    first, copy = tmp_path / "first", tmp_path / "first_float32"
    train(half, out_dir=first, float32_dir=copy, **small)
    assert (dtypes(first), dtypes(copy)) == ({torch.bfloat16}, {torch.float32})
    assert [path.name for path in first.glob("*.safetensors")] == ["model.safetensors"]
    before, published, kept = (load_file(place / "model.safetensors") for place in (half, first, copy))
    assert all(torch.equal(tensor.to(torch.bfloat16), published[name]) for name, tensor in kept.items())
    name = "model.layers.0.mlp.up_proj.weight"
    assert (before[name] == published[name]).float().mean() > 0.9  # what bfloat16 alone would go on from
    assert (before[name].float() == kept[name]).float().mean() < 0.1

    train(first, out_dir=tmp_path / "next", weights_from=copy, float32_dir=tmp_path / "next_float32", **small)
    train(copy, out_dir=tmp_path / "whole", save_dtype="float32", **small)
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("next_float32", "whole"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert dtypes(tmp_path / "next") == {torch.bfloat16}


def test_no_copy_is_kept_where_the_published_weights_are_float32(train: Train, base: Path, tmp_path: Path) -> None:
    train(base, float32_dir=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.full
def test_preferences_start_from_the_copy_and_so_does_their_reference(train: Train, half: Path, tmp_path: Path) -> None:
    train(half, float32_dir=tmp_path / "copy")
    report = fit_preferences(
        random_preferences(8), objective="dpo", model_path=tmp_path / "out", weights_from=tmp_path / "copy",
        out_dir=tmp_path / "dpo", work_dir=tmp_path / "work", lr=1e-3, max_steps=1, device="cpu",
    )  # fmt: skip
    assert report.loss_first == pytest.approx(0.693147, abs=1e-6)


def test_a_copy_of_another_training_is_refused(train: Train, half: Path, tmp_path: Path) -> None:
    train(half, float32_dir=tmp_path / "copy")
    train(half, out_dir=tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match=r"copy does not hold the float32 weights of .*other"):
        train(tmp_path / "other", out_dir=tmp_path / "third", weights_from=tmp_path / "copy")


@pytest.mark.full
def test_a_training_stopped_between_the_copy_and_the_checkpoint_ends_with_the_same_bits(
    train: Train, half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(half, out_dir=tmp_path / "expected", float32_dir=tmp_path / "expected_float32")
    calls: list[str] = []

    def stopped(*args: Any, dtype: str, **kwargs: Any) -> None:
        calls.append(dtype)
        if dtype == "bfloat16":
            raise KeyboardInterrupt
        save_model(*args, dtype=dtype, **kwargs)

    options: dict[str, Any] = {"save_steps": 1, "float32_dir": tmp_path / "copy"}
    with monkeypatch.context() as patch:
        patch.setattr("star_rft.training.fit.save_model", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(half, **options)
    assert calls == ["float32", "bfloat16"]
    assert not (tmp_path / "out").exists()
    train(half, **options)
    for name, expected in (("out", "expected"), ("copy", "expected_float32")):
        found = load_file(tmp_path / name / "model.safetensors")
        torch.testing.assert_close(found, load_file(tmp_path / expected / "model.safetensors"), rtol=0, atol=0)


def test_a_dequantised_model_is_published_as_a_plain_one(train: Train, half: Path, tmp_path: Path) -> None:
    from star_rft.training.publication import published

    model = AutoModelForCausalLM.from_pretrained(half)
    quantised = shutil.copytree(half, tmp_path / "quantised")
    content = read(half / "config.json") | {"quantization_config": {"quant_method": "fp8"}}
    (quantised / "config.json").write_text(json.dumps(content))
    model.config.quantization_config = content["quantization_config"]
    files = published(model, quantised, dtype="auto")
    model.config = files.loaded_config("bfloat16")
    out = tmp_path / "plain"
    model.save_pretrained(out)
    files.write(out, architecture="LlamaForCausalLM", dtype="bfloat16", ends=())
    assert "quantization_config" not in read(out / "config.json")
