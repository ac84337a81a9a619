"""What a training needs is known before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from star_rft.training import LoraSpec, TrainingError, fit, memory
from star_rft.training.memory import GIB, Need, check, estimate, shape_of
from tests.training.conftest import random_examples

ROOT = Path(__file__).parents[2]
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
