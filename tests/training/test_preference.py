"""`fit_preferences` keeps the promises of `fit`."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from star_rft.errors import TrainingError
from star_rft.training import fit as fit_module
from star_rft.training.batching import pad
from star_rft.training.forward import Forward, token_nll
from star_rft.training.losses import completion_logps
from star_rft.training.model import load_for_training
from star_rft.training.options import FitReport, LoraSpec
from star_rft.types import Example, Preference
from tests.training.conftest import END, VOCABULARY, random_preferences
from tests.training.fits import fit, fit_preferences

Fit = Callable[..., FitReport]
OBJECTIVES = ("dpo", "rso", "rrhf")


@pytest.fixture
def train(base: Path, tmp_path: Path) -> Fit:
    """`fit_preferences` with small defaults, into the folder `out`."""

    def run(preferences: Sequence[Preference], **changes: Any) -> FitReport:
        values: dict[str, Any] = {
            "objective": "dpo", "model_path": base, "out_dir": tmp_path / "out", "work_dir": tmp_path / "work",
            "lr": 1e-3, "max_steps": 3, "batch_size": 8, "device": "cpu", **changes,
        }  # fmt: skip
        return fit_preferences(preferences, **values)

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def mean_logps(model_path: Path, preferences: Sequence[Preference]) -> torch.Tensor:
    """Log-probability per token (R, 2) of each completion of preferences of two."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    batch = pad([Example(r.prompt_ids, ids) for r in preferences for ids in r.completion_ids])
    lengths_N = torch.tensor([len(ids) for r in preferences for ids in r.completion_ids])
    with torch.no_grad():
        nll = token_nll(model, Forward(), batch)
        logps_N = completion_logps(nll, labels=batch["labels"], lengths=lengths_N)
    return (logps_N / lengths_N).view(-1, 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_prefers_the_better_completion_more_often(
    train: Fit, base: Path, tmp_path: Path, objective: str
) -> None:
    preferences = random_preferences(32)
    before_R_2 = mean_logps(base, preferences)
    report = train(preferences, objective=objective, sft_weight=0.1, max_steps=40, lr=3e-3)
    after_R_2 = mean_logps(tmp_path / "out", preferences)
    accuracy = [(logps_R_2[:, 0] > logps_R_2[:, 1]).float().mean().item() for logps_R_2 in (before_R_2, after_R_2)]
    assert accuracy[0] < 0.8
    assert accuracy[1] > 0.95
    assert report.loss_last < report.loss_first


def test_the_model_learns_where_the_better_completion_ends(train: Fit, tmp_path: Path) -> None:
    preferences = [Preference((7, 8), ((9, 10, END), (9, 10, 11, END)), (1.0, 0.0))] * 8
    train(preferences, sft_weight=1.0, lr=1e-2, max_steps=40, warmup_ratio=0.0)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    drawn = model.generate(torch.tensor([[7, 8]]), max_new_tokens=10, do_sample=False)
    assert drawn[0].tolist() == [7, 8, 9, 10, END]


def test_the_reference_is_the_model_itself_unless_another_is_named(train: Fit, base: Path, tmp_path: Path) -> None:
    preferences = random_preferences(16)
    train(preferences, out_dir=tmp_path / "first", lr=1e-2)
    train(preferences, out_dir=tmp_path / "default")
    train(preferences, out_dir=tmp_path / "named", reference_path=base)
    train(preferences, out_dir=tmp_path / "other", reference_path=tmp_path / "first")
    default, named, other = (weights(tmp_path / name) for name in ("default", "named", "other"))
    torch.testing.assert_close(named, default, rtol=0, atol=0)
    assert any(not torch.equal(other[name], default[name]) for name in default)


def test_the_reference_is_gone_before_the_policy_is_loaded(train: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[torch.nn.Module]] = []

    def spy(*args: Any, **kwargs: Any) -> Any:
        assert all(earlier() is None for earlier in loaded)
        found = load_for_training(*args, **kwargs)
        loaded.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(fit_module, "load_for_training", spy)
    gc.disable()
    try:
        train(random_preferences(4), max_steps=1)
    finally:
        gc.enable()
    assert len(loaded) == 2


def test_the_policys_own_dropout_is_off_like_the_references(train: Fit, base: Path, tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=1, n_head=2, resid_pdrop=0.5, embd_pdrop=0.5,
        attn_pdrop=0.5, bos_token_id=END, eos_token_id=END,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "gpt2")
    report = train(random_preferences(8), model_path=tmp_path / "gpt2", max_steps=1)
    assert report.loss_first == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("objective", ["dpo", "rrhf"])
def test_micro_batches_do_not_change_what_is_learned(train: Fit, tmp_path: Path, objective: str) -> None:
    preferences = random_preferences(16, completions=3)
    for size in (1, 3, 8):
        out = tmp_path / str(size)
        train(preferences, objective=objective, sft_weight=1.0, micro_batch_size=size, out_dir=out, schedule="constant")
    for size in (3, 8):
        torch.testing.assert_close(weights(tmp_path / str(size)), weights(tmp_path / "1"), rtol=1e-3, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("objective", ["dpo", "rrhf"])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(train: Fit, tmp_path: Path, objective: str) -> None:
    settings: dict[str, Any] = {
        "objective": objective, "sft_weight": 0.5, "max_steps": 7, "save_steps": 2, "micro_batch_size": 3,
        "lora": LoraSpec(r=4, alpha=8, dropout=0.2), "lr": 1e-2,
    }  # fmt: skip
    preferences = random_preferences(20, completions=3)
    undisturbed = train(preferences, out_dir=tmp_path / "undisturbed", **settings)

    def stop_at_5(step: int, *rest: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(preferences, on_step=stop_at_5, **settings)
    assert not (tmp_path / "out").exists()
    steps: list[int] = []
    report = train(preferences, on_step=lambda step, *rest: steps.append(step), **settings)
    assert steps == [5, 6, 7]
    torch.testing.assert_close(weights(tmp_path / "out"), weights(tmp_path / "undisturbed"), rtol=0, atol=0)
    assert (report.steps, report.loss_last) == (undisturbed.steps, undisturbed.loss_last)
    assert not (tmp_path / "work").exists()


def test_too_long_completions_are_dropped_and_counted_never_cut(train: Fit) -> None:
    long = (*(4,) * 30, END)
    shortened = Preference((3,) * 30, (long, (5, END), (6, END)), (2.0, 1.0, 0.0))
    gone = Preference((3,) * 30, (long, (5, END), (6, END)), (2.0, 1.0, 1.0))
    report = train([shortened, gone, shortened], max_tokens=60, max_steps=None, epochs=1.0)
    assert (report.examples, report.dropped_too_long) == (2, 3)
    assert report.tokens == 2 * 2 * 32


def test_a_finished_training_is_not_done_again(train: Fit) -> None:
    first = train(random_preferences(10))
    told: list[object] = []
    assert train(random_preferences(10), on_step=lambda *step: told.append(step)) == first
    assert not told


@pytest.mark.parametrize(
    "changes", [{"objective": "rso"}, {"objective": "rrhf"}, {"beta": 0.2}, {"sft_weight": 0.2}, {"lr": 2e-3}]
)
def test_an_out_dir_of_another_training_is_refused(train: Fit, changes: dict[str, Any]) -> None:
    train(random_preferences(4), max_steps=1)
    with pytest.raises(TrainingError, match="other examples or settings"):
        train(random_preferences(4), max_steps=1, **changes)


def test_an_out_dir_of_fit_is_refused(train: Fit, base: Path, tmp_path: Path) -> None:
    examples = [Example(r.prompt_ids, r.completion_ids[0]) for r in random_preferences(4)]
    fit(
        examples, model_path=base, out_dir=tmp_path / "out", work_dir=tmp_path / "work", lr=1e-3, max_steps=1,
        device="cpu",
    )  # fmt: skip
    with pytest.raises(TrainingError, match="other examples or settings"):
        train(random_preferences(4), max_steps=1)


@pytest.mark.parametrize(
    ("preferences", "changes", "message"),
    [
        ([], {}, "no preferences"),
        ([Preference((3,), ((4, END), (5, END)), (1.0, 0.0, 0.0))], {}, "2 completions but 3 scores"),
        ([Preference((3,), ((4, END), (5, END)), (0.0, 1.0))], {}, "the best comes first"),
        ([Preference((3,), ((4, END), (5, END)), (1.0, float("nan")))], {}, "finite number"),
        ([Preference((3,), ((4, END), (5, END)), (1.0, 1.0))], {}, "compares nothing"),
        ([Preference((), ((4, END), (5, END)), (1.0, 0.0))], {}, "no prompt"),
        ([Preference((3,), ((4, END), ()), (1.0, 0.0))], {}, "empty completion"),
        ([Preference((3,), ((4, END), (1000, END)), (1.0, 0.0))], {}, "token 1000 but the model has 60"),
        (random_preferences(2), {"max_tokens": 2}, "within max_tokens=2"),
        (
            random_preferences(2),
            {"objective": "ppo"},
            "unknown objective 'ppo'.*valid: dpo, .*rrhf, rso, or 'pkg.module:function'",
        ),
        (random_preferences(2), {"beta": 0.0}, "option 'beta' of objective 'dpo': 0.0 is not valid"),
        (random_preferences(2), {"sft_weight": -1.0}, "sft_weight is -1.0"),
        (random_preferences(2), {"objective": "rrhf", "reference_path": "m"}, "leave reference out"),
    ],
)
def test_what_cannot_be_trained_is_said_in_the_users_words(
    train: Fit, preferences: list[Preference], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(preferences, **changes)
