"""The losses that compare, against their formulas computed plainly and against TRL's own DPOTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from star_rft.models import ASSETS
from star_rft.models.spec import ModelSpec
from star_rft.training.batching import IGNORED
from star_rft.training.fit import make_trainer
from star_rft.training.forward import Forward, Nll, token_nll
from star_rft.training.losses import completion_logps
from star_rft.training.preference import PairLoss, PreferenceCollator
from star_rft.training.registry import OBJECTIVES, ObjectiveSpec
from star_rft.types import Preference
from tests.training.conftest import random_preferences
from tests.training.gradients import Gradients, gradients_of, options, step_of

NAMES = ("dpo", "rso", "rrhf")


@pytest.fixture(scope="module")
def policy() -> Path:
    return ASSETS / "tiny"


@pytest.fixture(scope="module")
def reference(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model than the policy, so that no log-ratio is 0."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("reference")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
    return folder


def trainer_step(
    preferences: Sequence[Preference],
    policy: Path,
    reference: Path,
    work: Path,
    *,
    objective: str,
    sft_weight: float = 0.0,
    **changes: Any,
) -> tuple[float, Gradients]:
    """Let Trainer take one optimizer step over all preferences; return its loss and gradient."""
    beta = {} if objective == "rrhf" else {"beta": 0.3}
    spec = ObjectiveSpec.of(objective, sft_weight=sft_weight, **beta)
    loss = PairLoss(preferences, spec, None if objective == "rrhf" else reference)
    model = ModelSpec(policy, device="cpu")
    trainer, _, _ = make_trainer(loss, options(batch_size=len(preferences), **changes), model, work)
    return step_of(trainer)


def scores(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Nll:
    return token_nll(model, Forward(), batch)


def logp(model: torch.nn.Module, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
    ids_T = torch.tensor([*prompt, *completion])
    log_probs_T_V = model(ids_T[None]).logits[0].log_softmax(dim=-1)
    return sum((log_probs_T_V[t - 1, ids_T[t]] for t in range(len(prompt), len(ids_T))), torch.tensor(0.0))


def by_formula(
    preferences: Sequence[Preference],
    policy: Path,
    reference: Path,
    *,
    objective: str,
    sft_weight: float,
) -> tuple[float, Gradients]:
    """The definitions, one completion at a time, without batches, masks, or anything of ours."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    ref = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    pairs, chosen_logps, chosen_tokens, bests = [], [], 0, []
    for r in preferences:
        logps = [logp(model, r.prompt_ids, ids) for ids in r.completion_ids]
        with torch.no_grad():
            references = [logp(ref, r.prompt_ids, ids) for ids in r.completion_ids]
        bests.append(-logps[0] / len(r.completion_ids[0]))
        for i in range(len(logps)):
            for j in range(len(logps)):
                if r.scores[i] <= r.scores[j]:
                    continue
                if objective == "rrhf":
                    p_i, p_j = logps[i] / len(r.completion_ids[i]), logps[j] / len(r.completion_ids[j])
                    pairs.append(torch.clamp(p_j - p_i, min=0))
                else:
                    margin = 0.3 * ((logps[i] - references[i]) - (logps[j] - references[j]))
                    pairs.append(-torch.log(torch.sigmoid(margin)))
                chosen_logps.append(logps[i])
                chosen_tokens += len(r.completion_ids[i])
    if objective == "rrhf":
        loss = torch.stack(pairs).sum() / len(preferences) + sft_weight * torch.stack(bests).mean()
    else:
        loss = torch.stack(pairs).mean() - sft_weight * torch.stack(chosen_logps).sum() / chosen_tokens
    loss.backward()
    return loss.item(), gradients_of(model)


@pytest.mark.parametrize("sft_weight", [0.0, 0.5])
@pytest.mark.parametrize("objective", NAMES)
def test_loss_and_gradient_are_those_of_the_formula(
    policy: Path, reference: Path, tmp_path: Path, objective: str, sft_weight: float
) -> None:
    preferences = [*random_preferences(3, completions=2), *random_preferences(3, seed=1, completions=4)]
    expected_loss, expected = by_formula(preferences, policy, reference, objective=objective, sft_weight=sft_weight)
    loss, gradients = trainer_step(
        preferences, policy, reference, tmp_path, objective=objective, sft_weight=sft_weight, micro_batch_size=2
    )
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize(("micro_batch_size", "packing"), [(1, False), (4, False), (7, True), (2, True)])
def test_how_a_step_is_cut_changes_neither_loss_nor_gradient(
    policy: Path, reference: Path, tmp_path: Path, objective: str, micro_batch_size: int, packing: bool
) -> None:
    preferences = random_preferences(7, completions=3)
    loss, gradients = trainer_step(
        preferences, policy, reference, tmp_path, objective=objective, sft_weight=0.5, micro_batch_size=7
    )
    other_loss, other = trainer_step(
        preferences[::-1], policy, reference, tmp_path, objective=objective, sft_weight=0.5,
        micro_batch_size=micro_batch_size, packing=packing,
    )  # fmt: skip
    assert other_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other, gradients, rtol=1e-3, atol=1e-5)


def trl_step(
    preferences: Sequence[Preference],
    policy: Path,
    reference: Path,
    work: Path,
    *,
    loss_type: list[str],
    weights: list[float],
) -> tuple[float, Gradients]:
    """One step of TRL's own trainer, fed with the pairs as token ids."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
            return dataset  # it would tokenise texts

        def _send_telemetry(self) -> None: ...

    pairs = [
        {
            "prompt_ids": list(r.prompt_ids),
            "chosen_ids": list(r.completion_ids[i]),
            "rejected_ids": list(r.completion_ids[j]),
        }
        for r in preferences
        for i in range(len(r.scores))
        for j in range(len(r.scores))
        if r.scores[i] > r.scores[j]
    ]
    off: dict[str, Any] = {"gradient_checkpointing": None}  # newer versions of transformers warn of False
    config = DPOConfig(
        output_dir=str(work), per_device_train_batch_size=len(pairs), max_length=None, beta=0.3, max_steps=1,
        loss_type=loss_type, loss_weights=weights, max_grad_norm=1e9, logging_steps=1, report_to=[], bf16=False,
        use_cpu=True, save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, warmup_steps=0,
        **off,
    )  # fmt: skip
    model, ref = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (policy, reference))
    trainer = Tokenised(
        model=model,
        ref_model=ref,
        args=config,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    return step_of(trainer)


@pytest.mark.full
@pytest.mark.parametrize(("objective", "sft_weight"), [("dpo", 0.0), ("dpo", 0.2), ("rso", 0.0)])
def test_loss_and_gradient_are_those_of_trl(
    policy: Path, reference: Path, tmp_path: Path, objective: str, sft_weight: float
) -> None:
    preferences = [*random_preferences(3, completions=2), *random_preferences(2, seed=1, completions=4)]
    expected_loss, expected = trl_step(
        preferences, policy, reference, tmp_path, loss_type=["sigmoid", "sft"], weights=[1.0, sft_weight]
    )
    loss, gradients = trainer_step(
        preferences, policy, reference, tmp_path, objective=objective, sft_weight=sft_weight, micro_batch_size=2
    )
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)


def test_a_policy_that_is_its_reference_starts_at_log_2(policy: Path, tmp_path: Path) -> None:
    loss, _ = trainer_step(random_preferences(4), policy, policy, tmp_path, objective="dpo")
    assert loss == pytest.approx(0.693147, abs=1e-5)


def test_the_length_is_the_completions_own_and_no_label_is_touched(policy: Path) -> None:
    """RRHF's own code overwrites the mask before it counts, and so divides by the length of the padded row."""
    short = Preference((7, 8), ((4, 5, 1), (6, 1)), (1.0, 0.0))
    long = Preference((7, 8, 9, 9, 9), (tuple(range(3, 30)), (6, 6, 6, 1)), (1.0, 0.0))
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    batch = PreferenceCollator([short, long], OBJECTIVES.get("rrhf"), packed=False)([{"members": [0, 1]}])
    assert batch["lengths"].tolist() == [3, 2, 27, 4]
    before = {name: tensor.clone() for name, tensor in batch.items()}
    compared = PairLoss([short, long], ObjectiveSpec("rrhf", sft_weight=1.0), None)
    nll = scores(model, batch)
    loss = compared.loss(nll, batch, compared.totals(batch))
    torch.testing.assert_close(batch, before, rtol=0, atol=0)
    assert (batch["labels"] == IGNORED).sum() == batch["labels"].numel() - (3 + 2 + 27 + 4)
    apart = [
        compared.loss(scores(model, alone), alone, compared.totals(alone))
        for i in (0, 1)
        for alone in [PreferenceCollator([short, long], OBJECTIVES.get("rrhf"), packed=False)([{"members": [i]}])]
    ]
    torch.testing.assert_close(loss, torch.stack(apart).mean())
    logps_N = completion_logps(nll, labels=batch["labels"], lengths=batch["lengths"])
    expected = [logp(model, r.prompt_ids, ids) for r in (short, long) for ids in r.completion_ids]
    torch.testing.assert_close(logps_N, torch.stack(expected))


def test_every_completion_is_forwarded_once_whatever_its_pairs() -> None:
    preference = Preference((7,), ((4, 1), (5, 1), (6, 1), (8, 1)), (1.0, 1.0, 0.0, 0.0))
    batch = PreferenceCollator([preference], OBJECTIVES.get("dpo"), packed=False)([{"members": [0]}])
    assert batch["input_ids"].shape == (4, 3)
    assert list(zip(batch["better"].tolist(), batch["worse"].tolist(), strict=True)) == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert batch["compared"].tolist() == [4.0]


@pytest.mark.parametrize("packed", [False, True])
def test_an_empty_micro_batch_has_a_gradient_of_zero(policy: Path, packed: bool) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    preferences = random_preferences(2)
    collate = PreferenceCollator(preferences, OBJECTIVES.get("dpo"), packed, references={0: [0.0, 0.0], 1: [0.0, 0.0]})
    compared = PairLoss(preferences, ObjectiveSpec("dpo", sft_weight=1.0), policy)
    empty, full = collate([{"members": []}]), collate([{"members": [0, 1]}])
    assert compared.totals(empty).tolist() == [0.0, 0.0]
    loss = compared.loss(scores(model, empty), empty, compared.totals(full))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_the_fused_head_of_a_gpu_gives_the_same_loss(
    policy: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_rft.training import forward

    preferences = random_preferences(4, completions=3)
    plain, _ = trainer_step(preferences, policy, reference, tmp_path, objective="dpo", sft_weight=0.2)
    monkeypatch.setattr(forward, "FUSED_HEAD_DEVICES", ("cpu",))
    fused, _ = trainer_step(preferences, policy, reference, tmp_path, objective="dpo", sft_weight=0.2)
    assert fused == pytest.approx(plain, rel=1e-5)
