"""What training uses of a forward scores each sequence as the model scores it alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft.errors import TrainingError
from star_rft.models.spec import ModelSpec
from star_rft.training.batching import pack, pad
from star_rft.training.forward import Forward, token_nll
from star_rft.training.model import LoadOptions, load_for_training
from star_rft.training.options import FitReport, LoraSpec
from star_rft.training.probe import Wish, probe
from tests.tiers import fast_only
from tests.training.architectures import PLAIN, SETTINGS, WrappedLlama, small_model, write_model
from tests.training.conftest import random_examples, random_preferences
from tests.training.fits import fit, fit_preferences

Train = Callable[..., FitReport]
PACKED = {"llama", "qwen3", "gemma2", "granite", "cohere2", "gpt2", "gpt_neo", "mixtral", "olmoe", "deepseek_v3"}
PADDED = {"opt", "bloom", "mpt", "mamba", "bamba", "recurrent_gemma", "jamba", "llama4_text"}
# Older versions of transformers do not tell the mask of Falcon's alibi where a sequence begins.
EITHER = {"falcon-alibi"}


@pytest.fixture
def train(base: Path, tmp_path: Path) -> Train:
    """`fit` of a small model for one step, into the folder `out`; what is said goes to `said`."""

    def run(name: str, said: list[str], *, settings: dict[str, Any] | None = None, **changes: Any) -> FitReport:
        folder = tmp_path / "model"
        if not folder.exists():
            write_model(small_model(name, **(settings or {})), folder, tokenizer_of=base)
        values: dict[str, Any] = {
            "model_path": folder, "out_dir": tmp_path / "out", "work_dir": tmp_path / "work", "lr": 1e-3,
            "max_steps": 1, "batch_size": 8, "micro_batch_size": 4, "device": "cpu", "say": said.append,
            "seed": 3, **changes,
        }  # fmt: skip
        return fit(random_examples(8), **values)

    return run


def apart(model: Any) -> torch.Tensor:
    """The nll of each scored token of the examples, by all logits of each alone."""
    model.eval()
    found = []
    with torch.no_grad():
        for example in random_examples(8):
            ids_T = torch.tensor(example.prompt_ids + example.completion_ids)
            logps_T_V = model(input_ids=ids_T[None], use_cache=False).logits[0].float().log_softmax(-1)
            found += [-logps_T_V[t - 1, ids_T[t]] for t in range(len(example.prompt_ids), len(ids_T))]
    return torch.stack(found)


@pytest.mark.parametrize("name", fast_only(SETTINGS, "llama", "gemma2", "bloom", "mamba", "mixtral"))
def test_a_batch_scores_what_each_sequence_scores_alone(name: str) -> None:
    model = small_model(name)
    forward = probe(model, Wish(lengths=(9, 5, 11)))
    examples = random_examples(8)
    for packed in {False, forward.packs}:
        batch = pack(examples) if packed else pad(examples)
        with torch.no_grad():
            nll = token_nll(model.eval(), forward, batch)
        found = nll.values[batch["labels"][:, 1:][:, nll.columns] != -100]
        torch.testing.assert_close(found, apart(model), rtol=1e-4, atol=1e-4)


def is_kept_apart(model: Any) -> bool:
    """Whether a second sequence of a row, whose positions begin again, has the logits that it has alone."""
    ids_1_T, start = torch.arange(4, 24)[None], 9
    positions_1_T = torch.cat([torch.arange(start), torch.arange(20 - start)])[None]
    with torch.no_grad():
        packed = model.eval()(input_ids=ids_1_T, position_ids=positions_1_T, use_cache=False).logits[:, start:]
        alone = model(input_ids=ids_1_T[:, start:], use_cache=False).logits
    return torch.allclose(packed, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(PACKED | PADDED | EITHER))
def test_only_models_that_keep_packed_sequences_apart_are_packed(name: str) -> None:
    model = small_model(name)
    expected = is_kept_apart(model) if name in EITHER else name in PACKED
    assert probe(model, Wish(lengths=(9, 5, 11))).packs == expected


@pytest.mark.parametrize("name", fast_only(["llama", "bloom", "opt", "mamba"], "llama", "mamba"))
def test_packing_changes_no_loss(train: Train, tmp_path: Path, name: str) -> None:
    said: list[str] = []
    still = {"dropout": 0.0, "attention_dropout": 0.0, "hidden_dropout": 0.0}
    settings = {key: rate for key, rate in still.items() if key in SETTINGS[name]}
    padded = train(name, said, settings=settings, packing=False, out_dir=tmp_path / "padded")
    assert not said
    packed = train(name, said, packing=True, out_dir=tmp_path / "packed")
    assert packed.loss_first == pytest.approx(padded.loss_first, rel=1e-5)
    assert [line.startswith("packing: ") and "padded instead" in line for line in said] == [True] * (name != "llama")


def test_a_sequence_is_not_packed_into_a_row_whose_chunks_are_counted_from_its_start() -> None:
    assert not probe(small_model("llama4_text", attention_chunk_size=64), Wish(lengths=(9, 5))).packs


def test_a_model_that_looks_at_the_padding_is_refused() -> None:
    class Peeking(WrappedLlama):
        def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            out = self.inner(input_ids=input_ids, **kwargs)
            out.logits = out.logits * (1 + input_ids.shape[1] / 10)
            return out

    with pytest.raises(TrainingError, match="Peeking scores a row otherwise when padding is behind it"):
        probe(Peeking(), Wish())


def test_logits_are_cut_afterwards_where_the_forward_computes_them_all() -> None:
    model = small_model("llama")
    original = type(model).forward

    class Whole(type(model)):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
            return original(self, input_ids=input_ids, use_cache=use_cache)

    model.__class__ = Whole
    forward = probe(model, Wish())
    assert forward.head == "full"
    batch = pad(random_examples(8))
    nll = token_nll(model, forward, batch)
    torch.testing.assert_close(nll.values, token_nll(small_model("llama"), Forward(), batch).values)


def test_the_probe_draws_no_random_numbers_and_leaves_the_model_as_it_was() -> None:
    model = small_model("mixtral").train()
    before, config = torch.random.get_rng_state(), model.config.to_dict()
    probe(model, Wish(lengths=(9, 5)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training
    assert model.config.to_dict() == config


def test_a_soft_cap_of_attention_is_part_of_the_loss(base: Path, tmp_path: Path, train: Train) -> None:
    """Sdpa leaves it out or refuses it, in transformers; without its cap a model would train on another function."""
    from transformers import AutoModelForCausalLM

    said: list[str] = []
    for packing in (False, True):
        report = train("gemma2", said, packing=packing, out_dir=tmp_path / str(packing), batch_size=8)
        eager = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
        assert report.loss_first == pytest.approx(apart(eager).mean().item(), rel=1e-5)
    uncapped = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    for layer in uncapped.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert abs(apart(uncapped).mean().item() - report.loss_first) > 1e-3


def test_flash_attention_does_not_take_the_place_of_eager_attention(base: Path, tmp_path: Path) -> None:
    folder = write_model(small_model("gemma2"), tmp_path / "model", tokenizer_of=base)
    said: list[str] = []
    loading = LoadOptions(
        Wish(lengths=(9, 5)), highest=0, device=torch.device("cpu"), flash=True, packing="auto", say=said.append
    )
    loaded = load_for_training(ModelSpec(folder), loading)
    assert loaded.model.config._attn_implementation == "eager"
    assert not loaded.forward.packs
    assert len(said) == 1


def test_token_types_that_a_model_requires_in_training_are_those_of_text() -> None:
    model = small_model("llama")
    original = type(model).forward

    class Images(type(model)):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
            if self.training and token_type_ids is None:
                raise ValueError("`token_type_ids` are required as a model input when training")
            return original(self, input_ids=input_ids, **kwargs)

    model.__class__ = Images
    forward = probe(model, Wish())
    assert forward.type_ids == ("token_type_ids",)
    batch = pad(random_examples(8))
    torch.testing.assert_close(
        token_nll(model.train(), forward, batch).values, token_nll(small_model("llama"), Forward(), batch).values
    )


@pytest.mark.full
def test_the_text_part_of_a_multimodal_model_is_trained_and_its_vision_weights_stay(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForMultimodalLM, Gemma3Config

    config = Gemma3Config(
        text_config={**PLAIN, "model_type": "gemma3_text", "sliding_window": 8, "query_pre_attn_scalar": 8},
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
        mm_tokens_per_image=4, image_token_index=57, boi_token_index=58, eoi_token_index=59,
    )  # fmt: skip
    folder = write_model(AutoModelForMultimodalLM.from_config(config), tmp_path / "model", tokenizer_of=base)
    common: dict[str, Any] = {"work_dir": tmp_path / "work", "lr": 1e-3, "max_steps": 1, "device": "cpu"}
    fit(random_examples(8), model_path=folder, out_dir=tmp_path / "sft", **common)
    report = fit_preferences(
        random_preferences(4), objective="dpo", model_path=tmp_path / "sft", out_dir=tmp_path / "dpo", **common
    )
    assert report.loss_first == pytest.approx(math.log(2), abs=1e-6)
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "dpo"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if "vision" in name or "projector" in name)
    assert not all(torch.equal(before[name], after[name]) for name in before)
    fit(random_examples(8), model_path=folder, out_dir=tmp_path / "lora", lora=LoraSpec(r=2), **common)
    adapters = load_file(tmp_path / "lora/adapter/adapter_model.safetensors")
    assert adapters
    assert not any("vision" in name or "projector" in name for name in adapters)
