"""What a training needs is known before it starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers import models as architectures

from star_rft.errors import TrainingError
from star_rft.training import memory
from star_rft.training.memory import GIB, Need, check, estimate, shape_of
from star_rft.training.options import LoraSpec
from tests.paths import ROOT
from tests.training.conftest import random_examples
from tests.training.fits import fit

PLAIN: dict[str, Any] = {
    "tokens": 1024, "scored": 512, "lora": None, "gradient_checkpointing": False, "is_bf16": False, "on_gpu": False,
}  # fmt: skip


def test_a_shape_is_read_from_the_folder_as_the_model_has_it(base: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    shape = shape_of(base)
    assert shape is not None
    assert shape.parameters == model.num_parameters()
    assert (shape.layers, shape.width, shape.mlp_width, shape.vocabulary) == (2, 32, 64, 60)
    for targets in ("all-linear", ["q_proj", "up_proj"], r".*layers\.0\..*v_proj"):
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=targets))
        spec = LoraSpec(r=4, target_modules=targets if isinstance(targets, str) else tuple(targets))
        assert shape.adapted(spec) == adapted.get_nb_trainable_parameters()[0]


def test_a_folder_without_the_usual_names_has_no_shape(tmp_path: Path, base: Path) -> None:
    assert shape_of("some/name") is None
    assert shape_of(tmp_path) is None


PLAIN_SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE: dict[str, Any] = PLAIN_SIZES | {"intermediate_size": 64, "num_experts_per_tok": 2}
# (layers, width, width of the MLP, vocabulary): of the experts that a token is sent to, and where sizes are not stated.
SHAPES: dict[str, tuple[Callable[[], PreTrainedConfig], tuple[int, int, int, int]]] = {
    "gpt2, whose n_inner is null": (
        lambda: architectures.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        (2, 32, 128, 60),
    ),
    "bloom": (
        lambda: architectures.BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4),
        (2, 32, 128, 60),
    ),
    "mpt": (
        lambda: architectures.MptConfig(vocab_size=60, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
        (2, 32, 128, 60),
    ),
    "opt": (
        lambda: architectures.OPTConfig(**PLAIN_SIZES, ffn_dim=48, word_embed_proj_dim=32),
        (2, 32, 48, 60),
    ),
    "mamba": (
        lambda: architectures.MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2),
        (2, 32, 64, 60),
    ),
    "nemotron_h, whose config states experts that it has not": (
        lambda: architectures.NemotronHConfig(
            **PLAIN_SIZES,
            intermediate_size=64,
            layers_block_type=["mamba", "attention"],
            head_dim=8,
            mamba_num_heads=4,
            mamba_head_dim=8,
            ssm_state_size=8,
            n_groups=1,
        ),
        (2, 32, 64, 60),
    ),
    "mixtral": (lambda: architectures.MixtralConfig(**MOE, num_local_experts=4), (2, 32, 128, 60)),
    "qwen2_moe": (
        lambda: architectures.Qwen2MoeConfig(
            **MOE, num_experts=4, moe_intermediate_size=48, shared_expert_intermediate_size=16
        ),
        (2, 32, 112, 60),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_read_under_any_names_of_sizes(name: str, tmp_path: Path) -> None:
    config, sizes = SHAPES[name]
    model = AutoModelForCausalLM.from_config(config())
    model.save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    assert shape is not None
    assert (shape.layers, shape.width, shape.mlp_width, shape.vocabulary) == sizes
    assert shape.parameters == model.num_parameters()
    assert not shape.frozen
    assert estimate(shape, **PLAIN | {"lora": LoraSpec()}).total > 0


def test_sizes_that_differ_by_layer_count_as_the_largest(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "lists")
    raw = {"model_dim": 32, "num_transformer_layers": 2, "ffn_dim": [48, 64], "num_key_value_heads": [1, 2]}
    (folder / "config.json").write_text(json.dumps({"text_config": raw}))  # nor does it state the vocabulary
    shape = shape_of(folder)
    assert shape is not None
    assert (shape.layers, shape.width, shape.mlp_width, shape.vocabulary) == (2, 32, 64, 60)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"hidden_size": null, "num_hidden_layers": "two"}'])
def test_a_config_that_says_nothing_gives_no_shape(content: str, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    (folder / "config.json").write_text(content)
    assert shape_of(folder) is None


def test_torn_weights_give_no_shape(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    for torn in (weights[:100], weights[:-1], b"", b"version https://git-lfs.github.com/spec/v1"):
        (folder / "model.safetensors").write_bytes(torn)
        assert shape_of(folder) is None


def test_each_way_to_save_memory_saves_some(base: Path) -> None:
    # Of a model of 1.5B, as a config of the hub has it.
    shape = memory.Shape(1_543_714_304, 28, 1536, 8960, 151936, [("q_proj", 3072)] * 196)
    plain = estimate(shape, **PLAIN)
    assert plain.least == 16 * shape.parameters
    ways: list[dict[str, Any]] = [
        {"tokens": 512, "scored": 256}, {"gradient_checkpointing": True}, {"lora": LoraSpec()}, {"on_gpu": True},
    ]  # fmt: skip
    for way in ways:
        assert estimate(shape, **PLAIN | way).total < plain.total, way
    alone, shared = (estimate(shape, **PLAIN | {"on_gpu": True}, shards=n) for n in (1, 8))
    assert shared.least < alone.least / 3
    assert shared.activations == alone.activations


def test_what_cannot_fit_is_refused_and_what_may_not_fit_is_told() -> None:
    need = Need(weights=GIB, gradients=GIB, moments=2 * GIB, activations=3 * GIB, logits=GIB, slack=0)
    said: list[str] = []
    check(need, 8 * GIB, where="of memory", say=said.append)
    assert not said
    check(need, 5 * GIB, where="of memory", say=said.append)
    (line,) = said
    assert line.startswith("training may need 7.0 GiB (weights 1.0 GiB, ")
    assert "micro_batch_size" in line
    with pytest.raises(TrainingError, match=r"at least 4\.0 GiB .*, and 3\.0 GiB of memory are free: set lora"):
        check(need, 3 * GIB, where="of memory", say=said.append)


def test_a_training_that_does_not_fit_does_not_begin(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: (100_000, "of memory"))
    with pytest.raises(TrainingError, match="training needs at least"):
        fit(
            random_examples(4),
            model_path=base,
            out_dir=tmp_path / "out",
            work_dir=tmp_path / "work",
            lr=1e-3,
            device="cpu",
        )
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_estimate_is_near_the_measured_peak() -> None:
    """On tiny, with micro-batches that stand out of the libraries' own memory; adapters on it are as wide as itself."""
    command = [sys.executable, "benchmarks/train_memory.py", "--model", "tiny", "--json", "--only", "8192", "16384"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert len(rows) == 6
    for row in rows:
        assert (0.55 if "lora" in row["training"] else 0.7) < row["estimated"] / row["measured"] < 1.3, row
