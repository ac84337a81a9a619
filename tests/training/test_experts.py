"""Mixtures of experts: every objective trains them, with the router's auxiliary loss where their config has one."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft.errors import TrainingError
from star_rft.models import load
from star_rft.models.spec import ModelSpec
from star_rft.training.batching import pad
from star_rft.training.options import LoraSpec
from star_rft.types import Example
from tests.tiers import fast_only
from tests.training.architectures import small_model, write_model
from tests.training.conftest import random_examples, random_preferences
from tests.training.fits import fit, fit_preferences
from tests.training.gradients import Gradients, gradients_of, sft_step

FAMILIES = (
    "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "deepseek_v2", "deepseek_v3", "llama4_text",
    "granitemoe", "gpt_oss", "jamba",
)  # fmt: skip
# Configs with a coefficient, of which not every version of transformers computes an auxiliary loss.
EITHER = {"llama4_text", "granitemoe"}


@pytest.fixture
def folder_of(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """A small model of a family as a folder."""

    def make(name: str, **changes: Any) -> Path:
        return write_model(small_model(name, **changes), tmp_path / "base", tokenizer_of=base)

    return make


def common(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model_path": folder, "work_dir": folder.parent / "work", "device": "cpu", "lr": 1e-3, "batch_size": 8,
        "micro_batch_size": 4, **changes,
    }  # fmt: skip


def has_router_loss(model: Any) -> bool:
    """Whether transformers computes an auxiliary loss of the model's router."""
    with torch.no_grad():
        outputs = model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False, output_router_logits=True)
    return isinstance(outputs.get("aux_loss"), torch.Tensor)


def config_of(folder: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return {name: value for name, value in raw.items() if name not in ("dtype", "torch_dtype", "transformers_version")}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7, 9, 20, 33]]), use_cache=False).logits
    return found


@pytest.mark.parametrize("name", fast_only(FAMILIES, "mixtral", "llama4_text"))
def test_every_objective_trains_every_family_and_its_checkpoint_is_sampled_from(
    folder_of: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    folder, said = folder_of(name), list[str]()
    fit(random_examples(8), out_dir=tmp_path / "sft", max_steps=2, say=said.append, **common(folder))
    is_without = name in EITHER and not has_router_loss(small_model(name))
    assert ["but its forward gives no auxiliary loss" in line for line in said] == [True] * is_without
    assert config_of(tmp_path / "sft") == config_of(folder)
    model: Any = load(ModelSpec(tmp_path / "sft", dtype="float32", device="cpu"))[0]
    drawn = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
    assert drawn.shape[1] <= 6
    report = fit_preferences(
        random_preferences(4), objective="dpo", out_dir=tmp_path / "dpo", max_steps=1, router_loss=False,
        **common(tmp_path / "sft"),
    )  # fmt: skip
    assert report.loss_first == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("name", fast_only(FAMILIES, "mixtral", "llama4_text"))
def test_adapters_merge_into_what_the_adapted_model_computes(
    folder_of: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    from peft import PeftModel

    folder = folder_of(name)
    lora = LoraSpec(r=4, alpha=8)
    fit(random_examples(8), out_dir=tmp_path / "out", max_steps=3, lora=lora, **common(folder, lr=1e-2))
    plain, _ = load(ModelSpec(folder, dtype="float32", device="cpu"))
    before = logits(plain)
    merged, _ = load(ModelSpec(tmp_path / "out", dtype="float32", device="cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's, of patterns that it made itself
        adapted = PeftModel.from_pretrained(plain, str(tmp_path / "out" / "adapter")).eval()
    torch.testing.assert_close(logits(merged), logits(adapted), rtol=1e-4, atol=1e-4)
    assert (logits(merged) - before).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["phimoe", "llama4_text"])
def test_an_adapter_around_a_router_is_refused_by_name(
    folder_of: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(TrainingError, match=r"'router' is .*router, a router, which no adapter"):
        fit(
            random_examples(8), out_dir=tmp_path / "out", max_steps=1, lora=LoraSpec(target_modules=("router",)),
            **common(folder_of(name)),
        )  # fmt: skip


def test_adapters_that_could_not_be_merged_are_refused_before_training(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    """Zamba's attention is one block that several layers share."""
    shared = LoraSpec(target_modules=("q_proj",))
    with pytest.raises(TrainingError, match=r"lora: .* and .* share one weight, into which two adapters cannot be"):
        fit(random_examples(8), out_dir=tmp_path / "out", max_steps=1, lora=shared, **common(folder_of("zamba")))
    assert not (tmp_path / "out").exists()


def by_formula(examples: list[Example], folder: Path, *, coef: float, parts: int) -> tuple[float, Gradients]:
    """The mean nll, and the auxiliary loss of each part by its share of the scored tokens."""
    model, _ = load(ModelSpec(folder, dtype="float32", device="cpu"))
    tokens = sum(len(example.completion_ids) for example in examples)
    ordered = sorted(examples, key=lambda example: -len(example.prompt_ids + example.completion_ids))
    loss = torch.tensor(0.0)
    for example in examples:
        ids_T = torch.tensor(example.prompt_ids + example.completion_ids)
        logps_T_V = model(input_ids=ids_T[None], use_cache=False).logits[0].log_softmax(-1)
        for t in range(len(example.prompt_ids), len(ids_T)):
            loss = loss - logps_T_V[t - 1, ids_T[t]] / tokens
    size = len(examples) // parts
    for part in (ordered[start : start + size] for start in range(0, len(examples), size)):
        batch = pad(part)
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        aux = model(**asked, use_cache=False, output_router_logits=True).aux_loss
        loss = loss + coef * aux * sum(len(example.completion_ids) for example in part) / tokens
    loss.backward()
    return loss.item(), gradients_of(model)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", fast_only(["qwen3_moe", "olmoe", "gpt_oss", "jamba", "granitemoe"], "gpt_oss"))
def test_the_auxiliary_loss_counts_each_micro_batch_by_its_scored_tokens_and_no_padding(
    folder_of: Callable[..., Path], tmp_path: Path, name: str, checkpointing: bool
) -> None:
    folder = folder_of(name, router_aux_loss_coef=0.5)
    if name in EITHER and not has_router_loss(small_model(name)):
        pytest.skip(f"this version of transformers computes no auxiliary loss for {name}")
    # Of one length each pair, so that it is known which examples meet.
    examples = [Example((3, *range(4, 4 + n)), (20 + n, 30 + n, *range(3, 3 + n), 1)) for n in (1, 2, 5, 6)]
    loss, gradients = sft_step(
        examples, folder, tmp_path / "work", micro_batch_size=4, gradient_checkpointing=checkpointing
    )
    expected, expected_gradients = by_formula(examples, folder, coef=0.5, parts=1)
    assert loss == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5)
    plain, _ = sft_step(examples, folder, tmp_path / "work", micro_batch_size=4, router_loss=False)
    assert plain == pytest.approx(by_formula(examples, folder, coef=0.0, parts=1)[0], rel=1e-4)
    assert loss > plain + 0.1


def test_a_step_of_equal_micro_batches_has_the_mean_of_their_auxiliary_losses(
    folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of("qwen3_moe", router_aux_loss_coef=0.5)
    examples = [Example((3, *range(4, 4 + n)), (20 + n, 30 + n, *range(3, 3 + n), 1)) for n in (1, 1, 6, 6)]
    loss, gradients = sft_step(examples, folder, tmp_path / "work", micro_batch_size=2)
    expected, expected_gradients = by_formula(examples, folder, coef=0.5, parts=2)
    assert loss == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.full
def test_the_router_learns_to_share_out_the_tokens(folder_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = folder_of("qwen3_moe", router_aux_loss_coef=1.0)
    batch = pad(random_examples(16))
    asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = {}
    for name, has_loss in (("with", True), ("without", False)):
        fit(
            random_examples(16), out_dir=tmp_path / name, max_steps=20, router_loss=has_loss,
            **common(folder, lr=1e-2, schedule="constant"),
        )  # fmt: skip
        model, _ = load(ModelSpec(tmp_path / name, dtype="float32", device="cpu"))
        with torch.no_grad():
            found[name] = model(**asked, use_cache=False, output_router_logits=True).aux_loss.item()
    assert found["with"] < found["without"] - 0.01


def test_no_warning_is_printed_where_a_model_of_experts_is_trained(
    folder_of: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of("mixtral")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(random_examples(8), out_dir=tmp_path / "out", max_steps=1, **common(folder))
    assert capfd.readouterr() == ("", "")
