from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from star_rft.engines.hf.decoding import draw, inverse_cdf, keep_top_k, keep_top_p, uniforms


def random_logits(rows: int, vocabulary: int, *, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("vocabulary", [40, 3000])
@pytest.mark.parametrize("scale", [0.1, 3.0])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 0.9), (1.3, 20, 1.0), (0.5, 30, 0.5), (1.0, 5, 0.01)]
)
def test_the_kept_tokens_and_their_shares_are_those_of_transformers(
    vocabulary: int, scale: float, temperature: float, top_k: int, top_p: float
) -> None:
    logits = random_logits(8, vocabulary, scale=scale)
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)

    scores = (logits - logits.amax(-1, keepdim=True)) / temperature
    weights = keep_top_p(keep_top_k(scores, top_k).exp(), top_p)

    torch.testing.assert_close(weights / weights.sum(-1, keepdim=True), expected.softmax(-1))


def test_the_kept_set_is_the_smallest_one_even_among_ties() -> None:
    weights = keep_top_p(torch.ones(1, 100), 0.25)
    assert int((weights > 0).sum()) == 25


def test_the_draw_follows_the_distribution() -> None:
    logits = random_logits(1, 700, scale=1.0)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    token, logprob = draw(logits.expand(len(uniform), -1), uniform, temperature=0.7, top_p=1.0, top_k=0)

    expected = (logits[0] / 0.7).softmax(-1).double() * len(uniform)
    counts = torch.bincount(token, minlength=700).double()
    frequent = expected >= 5
    observed = [*counts[frequent].tolist(), counts[~frequent].sum().item()]
    share = torch.cat([expected[frequent], expected[~frequent].sum()[None]])
    assert chisquare(observed, (share / share.sum() * sum(observed)).tolist()).pvalue > 1e-3
    torch.testing.assert_close(logprob, logits[0].log_softmax(-1)[token])


@pytest.mark.parametrize("uniform", [0.0, 1e-300, 0.5, 1 - 2**-53])
def test_a_token_without_weight_is_never_drawn(uniform: float) -> None:
    weights = torch.zeros(4, 1000)
    weights[0, 999] = 1e-30
    weights[1, 0] = 1e30
    weights[2, 300:310] = torch.rand(10, generator=torch.Generator().manual_seed(2))
    weights[3, [255, 256]] = 0.1
    token = inverse_cdf(weights, torch.full((4,), uniform, dtype=torch.float64))
    assert (weights[torch.arange(4), token] > 0).all()


def test_the_uniform_number_selects_the_token_by_its_place_in_the_vocabulary() -> None:
    weights = torch.ones(5, 1000)
    uniform = torch.tensor([0.0, 0.2559, 0.2561, 0.5, 0.9999], dtype=torch.float64)
    assert inverse_cdf(weights, uniform).tolist() == [0, 255, 256, 500, 999]


def test_temperature_zero_takes_the_largest_logit_and_reports_its_plain_logprob() -> None:
    logits = random_logits(3, 50)
    token, logprob = draw(logits, torch.zeros(3), temperature=0, top_p=0.1, top_k=3)
    assert token.tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close(logprob, logits.log_softmax(-1).amax(-1))


def test_the_numbers_of_a_seed_do_not_depend_on_how_many_are_drawn() -> None:
    assert uniforms(2**63 + 5, 100)[:10] == uniforms(2**63 + 5, 10)
    assert uniforms(1, 3) != uniforms(2, 3)
