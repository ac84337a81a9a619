from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from transformers import AutoModelForCausalLM

from star_rft.engines.hf.sampler import HFSampler
from star_rft.errors import UserError
from star_rft.models import ASSETS
from star_rft.types import Completion, Decoding, Request
from tests.engines.hf.requests import PROMPTS, greedy_by_generate, requests_for

PLAIN = Decoding(temperature=1.0, max_tokens=40)


def by_request(completions: list[Completion]) -> dict[tuple[str, int], Completion]:
    return {(one.request.problem_id, one.request.sample_index): one for one in completions}


def plain_model(checkpoint: Path) -> Any:
    """The model as transformers loads it; `generate` is not among what its type has."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    return model.eval()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_greedy_output_is_that_of_generate_while_rows_come_and_go(checkpoint: Path, batch_size: int) -> None:
    sampler = HFSampler(checkpoint, batch_size=batch_size)
    greedy = Decoding(temperature=0, max_tokens=25)
    completions = by_request(list(sampler.sample(requests_for(PROMPTS, 2), decoding=greedy)))
    model = plain_model(checkpoint)
    for i, prompt in enumerate(PROMPTS):
        ids = sampler.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        expected = greedy_by_generate(model, ids, greedy.max_tokens)
        for sample_index in range(2):
            assert list(completions[f"p{i}", sample_index].token_ids) == expected


def test_every_request_is_answered_exactly_once(checkpoint: Path) -> None:
    requests = requests_for(PROMPTS, 7) + requests_for(
        PROMPTS[:3], 2, base_seed=9
    )  # the same prompts again, not adjacent
    completions = list(HFSampler(checkpoint, batch_size=5).sample(requests, decoding=PLAIN))
    assert Counter(one.request for one in completions) == Counter(requests)


def test_completions_come_as_they_finish_and_lengths_are_ragged(sampler: HFSampler) -> None:
    lengths = [len(one.token_ids) for one in sampler.sample(requests_for(PROMPTS, 9), decoding=PLAIN)]
    assert lengths == sorted(lengths)  # all 63 start together in 64 slots
    assert len(set(lengths)) > 10


def test_no_requests_give_no_completions(sampler: HFSampler) -> None:
    assert list(sampler.sample([], decoding=PLAIN)) == []


def test_the_tokens_of_a_seed_do_not_depend_on_the_batch(checkpoint: Path) -> None:
    requests = requests_for(PROMPTS, 4)
    outcomes = [
        {
            key: one.token_ids
            for key, one in by_request(
                list(HFSampler(checkpoint, batch_size=size).sample(order, decoding=PLAIN))
            ).items()
        }
        for size, order in [(1, requests), (5, requests), (64, requests[::-1])]
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_the_batch_size_of_the_call_is_the_one_that_is_used(checkpoint: Path) -> None:
    sampler = HFSampler(checkpoint, batch_size=64)
    rows: list[int] = []
    hook = sampler.model.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    list(sampler.sample(requests_for(["hello"], 9), decoding=PLAIN, batch_size=4))
    hook.remove()
    assert max(rows) == 4


def test_the_same_call_again_is_bit_equal(sampler: HFSampler) -> None:
    requests = requests_for(PROMPTS, 5)
    assert list(sampler.sample(requests, decoding=PLAIN)) == list(sampler.sample(requests, decoding=PLAIN))


def test_the_logprob_is_that_of_the_raw_model_over_all_sampled_tokens(checkpoint: Path, sampler: HFSampler) -> None:
    decoding = Decoding(temperature=0.7, top_p=0.9, top_k=10, max_tokens=30)
    model = plain_model(checkpoint)
    for one in sampler.sample(requests_for(PROMPTS, 3), decoding=decoding):
        prompt = sampler.tokenizer(one.request.prompt, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits_T_V = model(input_ids=torch.tensor([[*prompt, *one.token_ids]])).logits[0]
        logprobs_T_V = logits_T_V[len(prompt) - 1 : -1].double().log_softmax(-1)
        expected = sum(logprobs_T_V[t, token].item() for t, token in enumerate(one.token_ids))
        assert one.logprob == pytest.approx(expected, abs=1e-4)


def test_the_samples_of_a_prompt_share_one_prefill(sampler: HFSampler) -> None:
    fed: list[torch.Size] = []
    hook = sampler.model.register_forward_pre_hook(
        lambda _, __, kwargs: fed.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    prompt = "a prompt of some length"
    completions = list(sampler.sample(requests_for([prompt], 16), decoding=PLAIN))
    hook.remove()
    steps = sum(len(one.token_ids) for one in completions)
    assert fed[0] == (1, len(prompt) - 1)
    assert sum(rows * width for rows, width in fed) == len(prompt) - 1 + steps  # nothing is padding either


def test_the_first_token_follows_the_model_and_not_the_defaults_of_the_checkpoint(
    checkpoint: Path, sampler: HFSampler
) -> None:
    # The checkpoint says top_k 2, temperature 0.3, repetition_penalty 1.5.
    prompt, count = "the cat", 4000
    ids = sampler.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        share_V = plain_model(checkpoint)(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    decoding = Decoding(temperature=1.0, max_tokens=1)
    drawn = Counter(one.token_ids[0] for one in sampler.sample(requests_for([prompt], count), decoding=decoding))
    frequent = [token for token in range(len(share_V)) if share_V[token] * count >= 5]
    observed = [drawn[token] for token in frequent]
    expected = [share_V[token].item() * count for token in frequent]
    observed.append(count - sum(observed))
    expected.append(count - sum(expected))
    assert chisquare(observed, expected).pvalue > 1e-3


def test_sequences_have_the_distribution_of_generate(checkpoint: Path, sampler: HFSampler) -> None:
    prompt, count = "some", 3000
    decoding = Decoding(temperature=0.6, top_p=0.8, max_tokens=3)
    ours = Counter(one.token_ids for one in sampler.sample(requests_for([prompt], count), decoding=decoding))
    ids = sampler.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    torch.manual_seed(0)
    output = plain_model(checkpoint).generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=True,
        max_new_tokens=3,
        temperature=0.6,
        top_p=0.8,
        top_k=0,
        repetition_penalty=1.0,
        num_return_sequences=count,
    )
    theirs: Counter[tuple[int, ...]] = Counter()
    for row in output[:, len(ids) :].tolist():
        theirs[tuple(row[: row.index(2) + 1] if 2 in row else row)] += 1
    frequent = [outcome for outcome, n in (ours + theirs).items() if n >= 20]
    table = [[counts[outcome] for outcome in frequent] for counts in (ours, theirs)]
    for line, counts in zip(table, (ours, theirs), strict=True):
        line.append(counts.total() - sum(line) + 1)  # the rest together; 1 keeps the column from being empty
    assert len(frequent) > 10
    assert chi2_contingency(table).pvalue > 1e-3


def test_an_end_of_sequence_token_is_in_the_tokens_and_not_in_the_text(sampler: HFSampler) -> None:
    completions = list(sampler.sample(requests_for(PROMPTS, 9), decoding=PLAIN))
    stopped = [one for one in completions if one.finish_reason == "stop"]
    assert 0 < len(stopped) < len(completions)
    for one in stopped:
        assert one.token_ids.index(2) == len(one.token_ids) - 1
        assert one.text == sampler.tokenizer.decode(list(one.token_ids[:-1]), skip_special_tokens=True)


def test_a_completion_without_an_end_has_all_its_tokens_and_says_length(sampler: HFSampler) -> None:
    cut = [one for one in sampler.sample(requests_for(PROMPTS, 9), decoding=PLAIN) if one.finish_reason == "length"]
    assert cut
    for one in cut:
        assert len(one.token_ids) == PLAIN.max_tokens
        assert 2 not in one.token_ids


def test_an_end_of_sequence_at_the_last_allowed_token_is_a_stop(sampler: HFSampler) -> None:
    requests = requests_for(PROMPTS, 9)
    ended = next(one for one in sampler.sample(requests, decoding=PLAIN) if 1 < len(one.token_ids) < 20)
    decoding = Decoding(temperature=1.0, max_tokens=len(ended.token_ids))
    again = by_request(list(sampler.sample(requests, decoding=decoding)))
    assert again[ended.request.problem_id, ended.request.sample_index].finish_reason == "stop"


def test_a_stop_string_over_several_tokens_ends_a_completion_and_is_cut_from_its_text(
    sampler: HFSampler,
) -> None:
    free = list(sampler.sample(requests_for(PROMPTS, 9), decoding=PLAIN))
    stop = next(one.text[4:7] for one in free if len(one.text) > 20)  # three characters, three tokens
    decoding = Decoding(temperature=1.0, max_tokens=40, stop=(stop,))
    stopped = by_request(list(sampler.sample(requests_for(PROMPTS, 9), decoding=decoding)))
    for one in free:
        with_stop = stopped[one.request.problem_id, one.request.sample_index]
        before, found, _ = one.text.partition(stop)
        assert with_stop.text == before
        if found:
            assert with_stop.finish_reason == "stop"
            assert with_stop.token_ids == one.token_ids[: len(with_stop.token_ids)]
            whole = sampler.tokenizer.decode(list(with_stop.token_ids))
            assert isinstance(whole, str)
            assert whole.endswith(stop)
        else:
            assert with_stop == one


def test_a_prompt_that_does_not_fit_is_refused_at_once_with_its_problem_named(sampler: HFSampler) -> None:
    requests = [*requests_for(["short"], 1), Request("algebra-17", 0, "a" * 100, 0)]
    with pytest.raises(ValueError, match=r"problem algebra-17 has 100 tokens.*exceeds the 128 positions"):
        sampler.sample(requests, decoding=PLAIN)


def test_an_empty_prompt_is_refused(sampler: HFSampler) -> None:
    with pytest.raises(ValueError, match="problem nothing is empty"):
        sampler.sample([Request("nothing", 0, "", 0)], decoding=PLAIN)


def test_the_batch_size_is_the_given_one_or_a_power_of_two_that_fits(checkpoint: Path) -> None:
    assert HFSampler(checkpoint, batch_size=7).batch_size_for(10, PLAIN) == 7
    free = HFSampler(checkpoint).batch_size_for(10, PLAIN)
    assert free >= 16
    assert free & (free - 1) == 0
    assert HFSampler(checkpoint).batch_size_for(10**12, PLAIN) == 1


def test_a_container_with_little_memory_gets_fewer_rows(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = HFSampler(checkpoint)
    roomy = sampler.batch_size_for(400, PLAIN)
    limits = {"memory.max": str(2**30 + 2**22), "memory.current": str(2**30), "memory.stat": "anon 5\n"}
    monkeypatch.setattr("star_rft.runs.environment._read", lambda path: limits[Path(path).name])
    narrow = sampler.batch_size_for(400, PLAIN)  # 4 MiB are left
    assert narrow < roomy
    limits["memory.stat"] = f"anon 5\ninactive_file {2**29}\nactive_file 7"  # as after a checkpoint was read
    assert sampler.batch_size_for(400, PLAIN) > narrow


def test_a_closed_sampler_says_so(checkpoint: Path) -> None:
    sampler = HFSampler(checkpoint)
    sampler.close()
    sampler.close()
    with pytest.raises(RuntimeError, match="closed"):
        sampler.sample(requests_for(["a"], 1), decoding=PLAIN)


def test_broken_weights_are_an_error_and_not_a_token(checkpoint: Path) -> None:
    sampler = HFSampler(checkpoint)
    with torch.no_grad():
        sampler.model.lm_head.weight[5] = float("nan")
    with pytest.raises(FloatingPointError, match="NaN"):
        list(sampler.sample(requests_for(["a"], 1), decoding=PLAIN))


def test_a_prompt_with_a_token_that_the_model_does_not_embed_is_refused() -> None:
    sampler = HFSampler(ASSETS / "tiny")
    rows = sampler.model.get_input_embeddings().weight.shape[0]
    asked = [Request("far", 0, "?", 1, (1, rows))]
    with pytest.raises(UserError, match=f"the prompt of problem far holds token {rows} .*and the model embeds {rows}"):
        sampler.sample(asked, decoding=Decoding(temperature=0.0, max_tokens=2))
