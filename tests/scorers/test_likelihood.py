from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from star_rft.engines.hf.sampler import HFSampler
from star_rft.scorers.likelihood import Likelihood
from star_rft.types import Decoding, Problem, Request, Trace
from tests.scorers.conftest import TINY, save_tokenizer
from tests.scorers.traces import of_many_lengths, too_long, trace
from tests.small_ledgers import verdict


def render(problem: Problem) -> str:
    return f"<s>Question: {problem.prompt}\nAnswer:"


@torch.inference_mode()
def one_at_a_time(folder: Path, traces: list[Trace]) -> list[list[float]]:
    """The log-probability of each completion's tokens, each sequence alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for one in traces:
        prompt = tokenizer(render(one.problem), add_special_tokens=False)["input_ids"]
        completion = tokenizer(one.sample.text, add_special_tokens=False)["input_ids"]
        completion += [tokenizer.eos_token_id] if one.sample.finish_reason == "stop" else []
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        found.append([logits[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)])
    return found


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the same tokenizer."""
    folder = tmp_path_factory.mktemp("reference") / "model"
    config = LlamaConfig.from_pretrained(TINY, num_hidden_layers=1, initializer_range=0.2, dtype="float32")
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(folder)
    return save_tokenizer(folder, None)


@pytest.mark.parametrize("batch_tokens", [1, 200, 4096])
@pytest.mark.parametrize("per_token", [True, False])
def test_scores_are_sums_or_means_of_one_sequence_alone_and_in_order(
    other: Path, batch_tokens: int, per_token: bool
) -> None:
    traces = of_many_lengths()
    tokens = one_at_a_time(other, traces)
    expected = [sum(row) / (len(row) if per_token else 1) for row in tokens]
    scores = Likelihood(other, render=render, per_token=per_token, batch_tokens=batch_tokens).score(traces)
    assert list(scores) == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("per_token", [True, False])
def test_the_reference_is_subtracted(other: Path, per_token: bool) -> None:
    traces = of_many_lengths()
    pairs = list(zip(one_at_a_time(TINY, traces), one_at_a_time(other, traces), strict=True))
    expected = [(sum(a) - sum(b)) / (len(a) if per_token else 1) for a, b in pairs]
    scores = list(Likelihood(TINY, render=render, reference=other, per_token=per_token).score(traces))
    assert scores == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_against_itself_as_reference_everything_scores_zero() -> None:
    assert list(Likelihood(TINY, render=render, reference=TINY).score(of_many_lengths())) == [0.0] * 12


def test_the_sum_under_the_policy_is_what_the_sampler_recorded() -> None:
    problem = Problem("p", "Tom has 3 apples and buys 4 more. How many apples does Tom have?", "7", "math")
    sampler = HFSampler(TINY)
    requests = [Request("p", i, render(problem), seed=i) for i in range(4)]
    drawn = list(sampler.sample(requests, decoding=Decoding(temperature=0.3, max_tokens=96)))
    traces = []
    for completion in drawn:
        ids = AutoTokenizer.from_pretrained(TINY)(completion.text, add_special_tokens=False)["input_ids"]
        assert (*ids, 2) == completion.token_ids  # sampled as the tokenizer would write it
        traces.append(Trace(problem, trace("p", completion.text).sample, verdict()))
    scores = list(Likelihood(TINY, render=render, per_token=False).score(traces))
    assert scores == pytest.approx([completion.logprob for completion in drawn], abs=1e-3)


def test_a_completion_that_was_cut_off_is_not_charged_for_an_end_that_it_did_not_write() -> None:
    cut, ended = (trace("2 + 2?", "4", finish=finish) for finish in ("length", "stop"))
    assert [len(row) for row in one_at_a_time(TINY, [cut, ended])] == [1, 2]
    scores = list(Likelihood(TINY, render=render, per_token=False).score([cut, ended]))
    assert scores == pytest.approx([sum(row) for row in one_at_a_time(TINY, [cut, ended])], abs=1e-4)


def test_what_is_empty_or_too_long_has_no_score() -> None:
    traces = [trace("2 + 2?", "", finish="length"), too_long(), trace("2 + 2?", "4")]
    empty, long, scored = Likelihood(TINY, render=render).score(traces)
    assert (empty, long) == (None, None)
    assert scored is not None


def test_the_version_depends_on_the_models_and_the_normalisation(other: Path) -> None:
    versions = {
        Likelihood(TINY, render=render).version,
        Likelihood(TINY, render=render, per_token=False).version,
        Likelihood(TINY, render=render, reference=other).version,
        Likelihood(other, render=render).version,
    }
    assert len(versions) == 4


def test_a_closed_scorer_scores_no_more() -> None:
    scorer = Likelihood(TINY, render=render)
    scorer.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(scorer.score([]))
