"""The loss and gradient that Trainer takes, against the formula computed plainly, one example at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from star_rft.training.batching import pack, pad
from star_rft.training.forward import Forward, token_nll
from star_rft.training.losses import weighted_nll
from star_rft.types import Example
from tests.training.conftest import random_examples
from tests.training.gradients import Gradients, gradients_of, sft_step


def by_formula(examples: Sequence[Example], base: Path) -> tuple[float, Gradients]:
    """sum_i w_i sum_t nll_it / sum_i w_i T_i, without batches, masks, or anything of ours."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    numerator, denominator = torch.tensor(0.0), 0.0
    for example in examples:
        ids_T = torch.tensor(example.prompt_ids + example.completion_ids)
        log_probs_T_V = model(ids_T[None]).logits[0].log_softmax(dim=-1)
        for t in range(len(example.prompt_ids), len(ids_T)):
            numerator = numerator - example.weight * log_probs_T_V[t - 1, ids_T[t]]
            denominator += example.weight
    loss = numerator / denominator
    loss.backward()
    return loss.item(), gradients_of(model)


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("micro_batch_size", [12, 3, 1])
def test_the_weighted_loss_and_its_gradient_equal_the_formula(
    base: Path, tmp_path: Path, packing: bool, micro_batch_size: int
) -> None:
    examples = random_examples(12, weighted=True)
    loss, gradients = sft_step(examples, base, tmp_path, packing=packing, micro_batch_size=micro_batch_size)
    expected_loss, expected = by_formula(examples, base)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)


def test_uniform_weights_give_the_mean_over_tokens(base: Path, tmp_path: Path) -> None:
    examples = random_examples(12)
    loss, _ = sft_step(examples, base, tmp_path, micro_batch_size=5)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    batch = pad(examples)
    logits_B_T_V = model(batch["input_ids"]).logits
    mean = torch.nn.functional.cross_entropy(
        logits_B_T_V[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    assert loss == pytest.approx(mean.item(), rel=1e-5)


def test_the_scale_of_the_weights_does_not_matter(base: Path, tmp_path: Path) -> None:
    examples = random_examples(6, weighted=True)
    doubled = [Example(e.prompt_ids, e.completion_ids, 2 * e.weight) for e in examples]
    loss, gradients = sft_step(examples, base, tmp_path)
    loss_2, gradients_2 = sft_step(doubled, base, tmp_path)
    assert loss == pytest.approx(loss_2, rel=1e-6)
    torch.testing.assert_close(gradients, gradients_2)


def test_packed_sequences_do_not_attend_to_each_other(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    first, second, other = random_examples(3)
    silent = [Example(e.prompt_ids, e.completion_ids, weight=0.0) for e in (first, other)]
    alone = weighted(model, pad([second]))
    for neighbour in silent:
        torch.testing.assert_close(weighted(model, pack([neighbour, second])), alone)


def test_the_fused_head_of_a_gpu_gives_the_same_loss(base: Path) -> None:
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    batch = pad(random_examples(5, weighted=True))
    plain = weighted(model, batch)
    add_fused_lm_head(model)
    torch.testing.assert_close(weighted(model, batch, Forward(head="fused")), plain)


def weighted(model: torch.nn.Module, batch: dict[str, torch.Tensor], forward: Forward | None = None) -> torch.Tensor:
    return weighted_nll(token_nll(model, forward or Forward(), batch), weights=batch["weights"])
