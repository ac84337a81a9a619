from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from star_rft.errors import TrainingError
from star_rft.training.options import FitReport, LoraSpec, TrainingOptions
from star_rft.types import Example, digest
from tests.training.conftest import END, random_examples
from tests.training.fits import fit

Fit = Callable[..., FitReport]


@pytest.fixture
def train(base: Path, tmp_path: Path) -> Fit:
    """`fit` with small defaults, into the folder `out`."""

    def run(examples: list[Example], **changes: object) -> FitReport:
        values = {
            "model_path": base, "out_dir": tmp_path / "out", "work_dir": tmp_path / "work", "lr": 1e-3,
            "max_steps": 3, "batch_size": 8, "device": "cpu", **changes,
        }  # fmt: skip
        return fit(examples, **values)

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return dict(model.state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_learns_the_completion_and_where_it_ends(train: Fit, tmp_path: Path) -> None:
    report = train([Example((7, 8), (9, 10, 11, END))] * 8, lr=1e-2, max_steps=40, warmup_ratio=0.0)
    assert report.loss_last < 0.1 < report.loss_first
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    drawn = model.generate(torch.tensor([[7, 8]]), max_new_tokens=10, do_sample=False)
    assert drawn[0].tolist() == [7, 8, 9, 10, 11, END]


def test_what_is_written_loads_as_a_plain_checkpoint(train: Fit, tmp_path: Path, base: Path) -> None:
    train(random_examples(20))
    assert not same(weights(tmp_path / "out"), weights(base))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token_id == END
    assert not (tmp_path / "work").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_call_gives_the_same_bits_and_another_seed_does_not(train: Fit, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(random_examples(20), out_dir=tmp_path / name, seed=seed)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_too_long_examples_are_dropped_and_counted_never_cut(train: Fit) -> None:
    long = Example((3,) * 30, (*(4,) * 30, END))
    report = train([*random_examples(10), long, long], max_tokens=60, max_steps=None, epochs=2.0)
    assert (report.examples, report.dropped_too_long) == (10, 2)
    assert report.tokens == 2 * sum(len(e.prompt_ids + e.completion_ids) for e in random_examples(10))


def test_steps_follow_from_epochs_which_may_be_a_fraction(train: Fit) -> None:
    assert train(random_examples(20), max_steps=None, epochs=1.5).steps == 4


def test_every_step_is_told_and_nothing_is_printed(train: Fit, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int, float, float, float]] = []
    report = train(random_examples(20), on_step=lambda *step: told.append(step))
    assert [(step, steps) for step, steps, *_ in told] == [(1, 3), (2, 3), (3, 3)]
    assert (told[0][2], told[-1][2]) == (report.loss_first, report.loss_last)
    assert all(speed > 0 for *_, speed, _ in told)
    assert [lr for *_, lr in told] == pytest.approx([0.0, 1e-3, 5e-4])  # warmed up, then a cosine
    assert capfd.readouterr() == ("", "")


def test_a_finished_training_is_not_done_again(train: Fit) -> None:
    first = train(random_examples(20))
    told: list[object] = []
    assert train(random_examples(20), on_step=lambda *step: told.append(step)) == first
    assert not told


def test_an_out_dir_of_another_training_is_refused(train: Fit) -> None:
    train(random_examples(20))
    with pytest.raises(TrainingError, match="other examples or settings"):
        train(random_examples(20), lr=2e-3)


def test_a_work_dir_that_holds_something_else_is_refused(train: Fit, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").touch()
    with pytest.raises(TrainingError, match=r"thesis\.tex"):
        train(random_examples(20))
    assert (tmp_path / "work" / "thesis.tex").exists()


def test_lora_writes_the_merged_model_and_the_adapter_beside_it(train: Fit, tmp_path: Path, base: Path) -> None:
    from peft import PeftModel

    train(random_examples(20), lora=LoraSpec(r=4, alpha=8, dropout=0.1), lr=1e-2)
    merged = weights(tmp_path / "out")
    assert merged.keys() == weights(base).keys()
    assert not same(merged, weights(base))
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path / "out" / "adapter"
    )
    torch.testing.assert_close(dict(adapted.merge_and_unload().state_dict()), merged)


def test_updates_too_small_for_bfloat16_are_not_lost(train: Fit, tmp_path: Path, base: Path) -> None:
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(base).save_pretrained(half)
    train(random_examples(20), model_path=half, precision="bfloat16", lr=1e-6, save_dtype="float32")
    name = "model.layers.0.mlp.up_proj.weight"
    before, after = weights(half)[name], weights(tmp_path / "out")[name]
    assert (before != after).float().mean() > 0.9
    assert (before.to(torch.bfloat16) != after.to(torch.bfloat16)).float().mean() < 0.1


def test_a_checkpoint_can_be_written_in_bfloat16(train: Fit, tmp_path: Path) -> None:
    train(random_examples(20), save_dtype="bfloat16")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_gradient_checkpointing_changes_nothing_but_memory(train: Fit, tmp_path: Path) -> None:
    for name, switch in (("off", False), ("on", True)):
        train(random_examples(20), out_dir=tmp_path / name, gradient_checkpointing=switch)
    torch.testing.assert_close(weights(tmp_path / "off"), weights(tmp_path / "on"))


def test_an_inconsistent_generation_config_is_kept_and_breaks_no_save(train: Fit, tmp_path: Path, base: Path) -> None:
    odd = shutil.copytree(base, tmp_path / "odd")
    content = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [END, 2]}
    (odd / "generation_config.json").write_text(json.dumps(content))
    train(random_examples(20), model_path=odd, save_steps=1)
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert {key: written[key] for key in ("temperature", "top_p", "eos_token_id")} == {
        key: content[key] for key in ("temperature", "top_p", "eos_token_id")
    }


@pytest.mark.parametrize(
    ("examples", "changes", "message"),
    [
        ([], {}, "no examples"),
        (
            [Example((3,), (4, END))],
            {"max_tokens": 2},
            r"all 1 examples exceed max_tokens=2; the shortest has 3",
        ),
        ([Example((3,), (4, END), weight=0.0)], {}, "weights are positive"),
        ([Example((3,), (4, END), weight=float("nan"))], {}, "weights are positive"),
        ([Example((3,), ())], {}, "no completion"),
        ([Example((3,), (1000, END))], {}, "token 1000 but the model has 60"),
        (random_examples(4), {"lora": LoraSpec(target_modules=("q_prj",))}, "'q_prj'; it has .*q_proj"),
        (random_examples(4), {"max_steps": None, "epochs": None}, "give one"),
    ],
)
def test_what_cannot_be_trained_is_said_in_the_users_words(
    train: Fit, examples: list[Example], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(examples, **changes)


def test_a_loss_that_is_no_number_stops_the_training(train: Fit, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower lr"):
        train(random_examples(20), lr=1e30, warmup_ratio=0.0, schedule="constant", max_steps=10)
    assert not (tmp_path / "out").exists()


def test_a_number_that_is_written_as_a_whole_one_is_the_same_training() -> None:
    """A config and a launched process read 2 epochs as 2.0."""
    whole = TrainingOptions(lr=1, epochs=2, weight_decay=0, max_grad_norm=1, lora=LoraSpec(dropout=0))
    fractional = TrainingOptions(lr=1.0, epochs=2.0, weight_decay=0.0, max_grad_norm=1.0, lora=LoraSpec(dropout=0.0))
    assert digest(whole.deciding()) == digest(fractional.deciding())
    assert digest(whole.deciding()) != digest(replace(whole, epochs=3).deciding())
    assert digest(whole.deciding()) == digest(replace(whole, save_steps=3, end_ids=(7,)).deciding())
