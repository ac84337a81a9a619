"""Divergence from the base, against torch by hand on the shipped tiny model."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import star_rft.evaluation.kl
from star_rft.data import Prompter
from star_rft.errors import UserError
from star_rft.evaluation.kl import kl_to_base, length_change, mean_kl, own_samples, reference_solutions
from star_rft.ledger import Ledger
from star_rft.models import ASSETS, load_tokenizer
from star_rft.models.spec import ModelSpec
from star_rft.types import Example, Problem
from tests.small_ledgers import commit, ledger_of, sample, verdict

TINY = ASSETS / "tiny"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, every weight a little elsewhere."""
    folder = tmp_path_factory.mktemp("moved") / "model"
    shutil.copytree(TINY, folder)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def items(count: int = 20, *, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    tokens = len(load_tokenizer(TINY))
    return [
        Example(
            tuple(rng.randrange(3, tokens) for _ in range(rng.randint(1, 30))),
            tuple(rng.randrange(3, tokens) for _ in range(rng.randint(1, 60))),
        )
        for _ in range(count)
    ]


@torch.inference_mode()
def by_hand(policy: Path, base: Path, some: Sequence[Example]) -> float:
    """One sequence at a time, in double precision, term by term."""
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval() for path in (policy, base)]
    kls = []
    for item in some:
        ids = torch.tensor([[*item.prompt_ids, *item.completion_ids]])
        p_T_V, q_T_V = (model(input_ids=ids).logits[0].softmax(-1) for model in models)
        for t in range(len(item.prompt_ids), ids.shape[1]):
            p, q = p_T_V[t - 1], q_T_V[t - 1]
            kls.append(float((p * (p / q).log()).sum()))
    return sum(kls) / len(kls)


def test_it_is_what_torch_says_by_hand(moved: Path) -> None:
    items_by_name = {"own": items(), "other": items(5, seed=1)}
    found = kl_to_base(ModelSpec(moved, "float32", "cpu"), ModelSpec(TINY, "float32", "cpu"), items_by_name)
    assert found["own"] == pytest.approx(by_hand(moved, TINY, items()), rel=1e-4)
    assert found["other"] == pytest.approx(by_hand(moved, TINY, items(5, seed=1)), rel=1e-4)
    assert found["own"] > 0.001


def test_it_has_a_direction(moved: Path) -> None:
    there, back = kl_to_base(moved, TINY, {"x": items()}), kl_to_base(TINY, moved, {"x": items()})
    assert back["x"] == pytest.approx(by_hand(TINY, moved, items()), rel=1e-4)
    assert back["x"] != pytest.approx(there["x"], rel=1e-4)


def test_equal_checkpoints_have_not_moved(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(TINY, copy)
    assert kl_to_base(copy, TINY, {"own": items()}) == {"own": 0.0}
    assert kl_to_base(TINY, TINY, {"own": items(), "reference": []}) == {"own": 0.0}


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
@pytest.mark.parametrize("chunk_bytes", [1, 2**14, 2**26])
def test_order_batches_and_chunks_do_not_matter(
    moved: Path, batch_tokens: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, base = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (moved, TINY))
    expected = mean_kl(policy, base, items())
    shuffled = items()
    random.Random(1).shuffle(shuffled)
    monkeypatch.setattr(star_rft.evaluation.kl, "CHUNK_BYTES", chunk_bytes)
    assert mean_kl(policy, base, shuffled, batch_tokens=batch_tokens) == pytest.approx(expected, rel=1e-4)


def test_only_completion_tokens_count(moved: Path) -> None:
    (item,) = items(1)
    whole = Example((), item.prompt_ids + item.completion_ids)
    cut = Example(item.prompt_ids, ())
    assert kl_to_base(moved, TINY, {"x": [item, cut]}) == pytest.approx(kl_to_base(moved, TINY, {"x": [item]}))
    ids = item.prompt_ids + item.completion_ids
    assert kl_to_base(moved, TINY, {"x": [whole]})["x"] == pytest.approx(
        by_hand(moved, TINY, [Example(ids[:1], ids[1:])]), rel=1e-4
    )


def test_what_is_longer_than_the_positions_is_left_out_and_nothing_has_no_figure(moved: Path) -> None:
    too_long = Example((5,), (6,) * 600)
    assert kl_to_base(moved, TINY, {"x": [too_long], "none": []}) == {}
    assert kl_to_base(moved, TINY, {"x": [too_long, *items(3)]}) == kl_to_base(moved, TINY, {"x": items(3)})


def test_another_vocabulary_is_one_clear_error(tmp_path: Path) -> None:
    config = LlamaConfig.from_pretrained(TINY, vocab_size=77, num_hidden_layers=1)
    wider = LlamaForCausalLM(config).eval()
    base = AutoModelForCausalLM.from_pretrained(TINY).eval()
    with pytest.raises(UserError, match="predicts 77 tokens"):
        mean_kl(wider, base, items(1))
    other = tmp_path / "other"
    shutil.copytree(TINY, other)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(TINY)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(other)
    base.resize_token_embeddings(len(tokenizer))
    base.save_pretrained(other)
    with pytest.raises(UserError, match="another vocabulary"):
        kl_to_base(other, TINY, {"own": items(1)})


def prompter() -> Prompter:
    return Prompter(load_tokenizer(TINY), template="Question: {question}\nAnswer:", completion_prefix=" ")


def test_own_samples_are_the_tokens_that_the_model_sampled(tmp_path: Path) -> None:
    pairs = [(sample(f"p{i}", a, tokens=i + 1), verdict()) for i in range(6) for a in range(3)]
    pairs += [
        (sample("p0", 9, tokens=99, hinted=True), verdict()),
        (sample("p0", 0, tokens=98, round_index=2), verdict()),
    ]
    con = ledger_of(tmp_path, pairs).connect()
    problems = {f"p{i}": Problem(f"p{i}", f"What is {i}?", "1", "math") for i in range(6)}
    prompts = prompter()

    def drawn(**changes: Any) -> list[Example]:
        options: dict[str, Any] = {"round_index": 1, "split": "train", "model": "m"}
        options |= {"problems": problems, "prompter": prompts}
        return own_samples(con, **options | changes)

    every = drawn()
    assert sorted(len(item.completion_ids) for item in every) == sorted([1, 2, 3, 4, 5, 6] * 3)
    prompt = prompts.tokenizer(prompts.render(problems["p3"]), add_special_tokens=False)["input_ids"]
    assert {item.prompt_ids for item in every if item.completion_ids == (0, 1, 2, 3)} == {tuple(prompt)}
    few, again, others = drawn(traces=5), drawn(traces=5), drawn(traces=5, seed=1)
    assert few == again == every[:5]
    assert few != others
    assert drawn(model="another") == []


def test_reference_solutions_are_those_that_there_are() -> None:
    problems = [Problem(f"p{i}", f"What is {i}?", "1", "math", "It is 1." if i % 2 else None) for i in range(20)]
    found = reference_solutions(problems, prompter=prompter(), traces=4)
    assert len(found) == 4
    assert reference_solutions(list(reversed(problems)), prompter=prompter(), traces=4) == found
    assert len(reference_solutions(problems, prompter=prompter())) == 10


def test_length_is_compared_with_the_first_round_of_the_split(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, [(sample("a", i, tokens=10 + 10 * i), verdict()) for i in range(2)])
    commit(ledger, "u1", [(sample("a", 0, tokens=30, round_index=3), verdict())])
    commit(ledger, "u2", [(sample("a", 1, tokens=500, round_index=3, hinted=True), verdict())])
    commit(ledger, "u3", [(sample("a", 0, tokens=40, round_index=0, split="dev"), verdict())])
    con = ledger.connect()
    assert length_change(con, round_index=3, split="train") == {
        "tokens": 30, "first_round": 1, "first_tokens": 15, "ratio": 2
    }  # fmt: skip
    assert length_change(con, round_index=0, split="dev")["ratio"] == 1
    assert length_change(con, round_index=2, split="train") == {}
    assert length_change(Ledger(tmp_path / "empty", is_writer=True).connect(), round_index=1, split="train") == {}
