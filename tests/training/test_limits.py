"""Sequences that a model does not take are left out of its training, whatever max_tokens says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from star_rft.errors import TrainingError
from star_rft.types import Example, Preference
from tests.training.architectures import small_model, write_model
from tests.training.conftest import END, random_examples, random_preferences
from tests.training.fits import fit, fit_preferences

LONG_ROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [8.0] * 4, "rope_theta": 10000.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LONG = Example((3,) * 20, (*(4,) * 20, END))


def options(folder: Path, said: list[str]) -> dict[str, Any]:
    return {
        "model_path": folder, "work_dir": folder.parent / "work", "lr": 1e-3, "max_steps": 1, "batch_size": 4,
        "device": "cpu", "max_tokens": 2048, "say": said.append,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("gpt2", {"n_positions": 32}, r"the 32 tokens that the model takes \(n_positions\)"),
        ("opt", {"max_position_embeddings": 32}, "the 32 tokens that the model takes"),
        ("llama", {"rope_parameters": LONG_ROPE}, "the 32 tokens that the model takes .long rope changes its factors"),
    ],
)
def test_examples_that_a_model_does_not_take_are_left_out_with_the_reason(
    base: Path, tmp_path: Path, name: str, changes: dict[str, Any], why: str
) -> None:
    folder, said = write_model(small_model(name, **changes), tmp_path / "model", tokenizer_of=base), list[str]()
    report = fit([*random_examples(6), LONG, LONG], out_dir=tmp_path / "sft", **options(folder, said))
    assert (report.examples, report.dropped_too_long) == (6, 2)
    assert len(said) == 1
    with pytest.raises(TrainingError, match=f"all 1 examples exceed {why}"):
        fit([LONG], out_dir=tmp_path / "none", **options(folder, said))
    long = Preference(LONG.prompt_ids, (LONG.completion_ids, (5, END), (6, END)), (2.0, 1.0, 0.0))
    report = fit_preferences(
        [*random_preferences(3), long], objective="dpo", out_dir=tmp_path / "dpo", **options(folder, said)
    )
    assert (report.examples, report.dropped_too_long) == (4, 1)
    assert said[1].startswith("1 completions left out: they are longer than the 32 tokens")


def test_a_limit_of_the_users_own_is_not_commented_on(base: Path, tmp_path: Path) -> None:
    said: list[str] = []
    report = fit([*random_examples(6), LONG], out_dir=tmp_path / "out", **{**options(base, said), "max_tokens": 30})
    assert (report.dropped_too_long, said) == (1, [])
