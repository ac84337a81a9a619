"""What training uses of a forward scores each sequence as the model scores it alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from star_rft.training import FitReport, TrainingError, fit
from star_rft.training.batches import pack, pad
from star_rft.training.forward import Forward, token_nll
from star_rft.training.probe import Wish, probe
from tests.training.architectures import SETTINGS, small_model, write_model
from tests.training.conftest import random_examples

Train = Callable[..., FitReport]
PACKED = {"llama", "qwen3", "gemma2", "granite", "cohere2", "gpt2", "gpt_neo", "mixtral", "olmoe", "deepseek_v3"}
PADDED = {"opt", "bloom", "mpt", "falcon-alibi", "mamba", "bamba", "recurrent_gemma", "jamba", "llama4_text"}


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


@pytest.mark.parametrize("name", SETTINGS)
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


@pytest.mark.parametrize("name", sorted(PACKED | PADDED))
def test_only_models_that_keep_packed_sequences_apart_are_packed(name: str) -> None:
    assert probe(small_model(name), Wish(lengths=(9, 5, 11))).packs == (name in PACKED)


@pytest.mark.parametrize("name", ["llama", "bloom", "opt", "mamba"])
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
    class Peeking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inner = small_model("llama")
            self.inner, self.config, self.device = inner, inner.config, inner.device

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
