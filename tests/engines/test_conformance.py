"""Every backend passes the same checks: `conformance.py` says what a backend supplies, and lists what it may except."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chisquare

from star_rft.errors import UserError
from star_rft.ledger import Ledger
from star_rft.progress import Silent
from star_rft.sampling.plan import PlannedRequest, PlanSpec, plan_table, read_plan, write_plan
from star_rft.sampling.rollout import draw_jobs
from star_rft.types import Completion, Decoding, Problem, Request, Sampler
from tests.engines.conformance import (
    GREEDY,
    LIMIT,
    PLAIN,
    Backend,
    Reference,
    hf_backend,
    hostile_model,
    keyed,
    prompts,
    requests,
    vllm_backend,
)
from tests.engines.server_backends import server_backend, vllm_server_backend
from tests.small_jobs import jobs_for
from verifiers import verify_iter
from verifiers.types import Verdict

BACKENDS = [
    pytest.param(hf_backend, id="hf"),
    pytest.param(vllm_backend, id="vllm", marks=pytest.mark.vllm),
    pytest.param(server_backend, id="server", marks=pytest.mark.full),
    pytest.param(vllm_server_backend, id="vllm-serve", marks=pytest.mark.vllm),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_model(tmp_path_factory.mktemp("models") / "hostile")


@pytest.fixture(scope="module")
def reference(model: Path) -> Reference:
    return Reference.of(model)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.param()
    return made


@pytest.fixture(scope="module")
def sampler(backend: Backend, model: Path) -> Iterator[Sampler]:
    with backend.open(model) as opened:
        yield opened


@pytest.fixture(scope="module")
def drawn(sampler: Sampler) -> list[Completion]:
    """Plain samples, of which about one in six ends with the second end-of-sequence token."""
    return list(sampler.sample(requests(prompts(12), 8), decoding=PLAIN))


@pytest.fixture(scope="module")
def greedy(sampler: Sampler) -> dict[tuple[str, int], Completion]:
    return keyed(list(sampler.sample(requests(prompts(12), 1), decoding=GREEDY)))


def test_every_request_is_answered_exactly_once_with_itself(sampler: Sampler) -> None:
    asked = requests(prompts(7), 5) + requests(prompts(3), 2, seed=9)  # the same prompts again, not adjacent
    asked += [replace(asked[0], sample_index=99, seed=seed) for seed in (0, 2**63 - 1, 2**63, 2**64 - 1)]
    completions = list(sampler.sample(asked, decoding=PLAIN))
    assert Counter(one.request for one in completions) == Counter(asked)


def test_no_requests_give_no_completions(sampler: Sampler) -> None:
    assert list(sampler.sample([], decoding=PLAIN)) == []


def test_a_completion_ends_with_one_end_of_sequence_token_or_at_its_limit(sampler: Sampler, model: Path) -> None:
    eos_ids = Reference.of(model).eos_ids
    decoding = replace(PLAIN, max_tokens=12)
    completions = list(sampler.sample(requests(prompts(12), 8), decoding=decoding))
    assert {one.finish_reason for one in completions} == {"stop", "length"}
    assert {one.token_ids[-1] for one in completions} > eos_ids
    for one in completions:
        assert not set(one.token_ids[:-1]) & eos_ids
        if one.finish_reason == "stop":
            assert one.token_ids[-1] in eos_ids
            assert len(one.token_ids) <= decoding.max_tokens
        else:
            assert one.token_ids[-1] not in eos_ids
            assert len(one.token_ids) == decoding.max_tokens


def test_the_text_is_that_of_the_tokens_before_the_end(drawn: list[Completion], reference: Reference) -> None:
    assert {one.token_ids[-1] for one in drawn} == reference.eos_ids  # one of which has a text of its own
    for one in drawn:
        assert one.text == reference.text(one.token_ids[:-1])


def test_bytes_that_are_no_text_are_text_all_the_same(sampler: Sampler, reference: Reference) -> None:
    wild = Decoding(temperature=2.0, max_tokens=60)  # vLLM takes no more
    completions = list(sampler.sample(requests(["é中", "Hello. "], 8), decoding=wild))
    assert any("\ufffd" in one.text for one in completions)
    for one in completions:
        body = one.token_ids[:-1] if one.finish_reason == "stop" else one.token_ids
        assert one.text == reference.text(body)


def test_the_end_of_sequence_may_be_the_last_token_of_the_limit(
    sampler: Sampler, greedy: dict[tuple[str, int], Completion], reference: Reference
) -> None:
    whole = next(one for one in greedy.values() if one.finish_reason == "stop" and len(one.token_ids) > 4)
    length = len(whole.token_ids)
    at, before = (
        next(sampler.sample([whole.request], decoding=replace(GREEDY, max_tokens=limit)))
        for limit in (length, length - 1)
    )
    assert (at.token_ids, at.text, at.finish_reason) == (whole.token_ids, whole.text, "stop")
    assert (before.token_ids, before.finish_reason) == (whole.token_ids[:-1], "length")
    assert before.text == reference.text(whole.token_ids[:-1])


def test_a_stop_id_ends_a_completion_and_stays_among_its_tokens(
    sampler: Sampler, greedy: dict[tuple[str, int], Completion], reference: Reference
) -> None:
    whole = max(greedy.values(), key=lambda one: len(one.token_ids))
    stop = next(token for token in whole.token_ids[3:] if token not in whole.token_ids[:3])
    length = whole.token_ids.index(stop) + 1
    decoding = replace(GREEDY, stop_token_ids=(stop,))
    (one,) = sampler.sample([whole.request], decoding=decoding)
    assert (one.token_ids, one.finish_reason) == (whole.token_ids[:length], "stop")
    assert one.text == reference.text(whole.token_ids[: length - 1])


def test_the_ids_of_a_request_are_what_the_model_reads(
    sampler: Sampler, greedy: dict[tuple[str, int], Completion], reference: Reference
) -> None:
    first, second, *_ = greedy.values()
    ids = tuple(reference.tokenizer(second.request.prompt, add_special_tokens=False)["input_ids"])
    (one,) = sampler.sample([replace(first.request, prompt_ids=ids)], decoding=GREEDY)
    assert one.token_ids == second.token_ids


def test_a_stop_string_over_several_tokens_ends_a_completion_and_is_cut_off(
    sampler: Sampler, greedy: dict[tuple[str, int], Completion], reference: Reference
) -> None:
    whole = max(greedy.values(), key=lambda one: len(one.token_ids))
    start = len(reference.text(whole.token_ids[:6])) - 2  # begins inside one token, ends inside another
    stop = whole.text[start : start + 9]
    assert "\n" not in stop
    assert all(stop not in reference.text([token]) for token in whole.token_ids)
    first = whole.text.index(stop)
    decoding = replace(GREEDY, stop=("no such text", stop))
    (one,) = sampler.sample([whole.request], decoding=decoding)
    assert (one.text, one.finish_reason) == (whole.text[:first], "stop")
    assert one.token_ids == whole.token_ids[: len(one.token_ids)]
    assert stop in reference.text(one.token_ids)  # the token that completes it is the last
    assert stop not in reference.text(one.token_ids[:-1])
    assert one.logprob == pytest.approx(reference.logprob(one), abs=1e-2)


def test_a_stop_string_may_end_with_the_limit(
    sampler: Sampler, greedy: dict[tuple[str, int], Completion], reference: Reference
) -> None:
    whole = max(greedy.values(), key=lambda one: len(one.token_ids))
    stop = reference.text(whole.token_ids[:6])[-3:]
    count = next(n for n in range(1, 7) if stop in reference.text(whole.token_ids[:n]))
    (one,) = sampler.sample([whole.request], decoding=replace(GREEDY, stop=(stop,), max_tokens=count))
    assert (one.finish_reason, one.token_ids) == ("stop", whole.token_ids[:count])
    assert one.text == whole.text[: whole.text.index(stop)]


def test_the_earliest_of_several_stop_strings_is_cut_at(sampler: Sampler) -> None:
    decoding = replace(PLAIN, stop=("\n", "####", "."))
    for one in sampler.sample(requests(prompts(6), 6), decoding=decoding):
        assert not any(stop in one.text for stop in decoding.stop)
        assert one.finish_reason == "stop"


def test_the_logprob_is_that_of_the_raw_model_over_all_tokens(
    sampler: Sampler, backend: Backend, reference: Reference
) -> None:
    decoding = Decoding(temperature=0.7, top_p=0.9, top_k=20, max_tokens=30)
    for one in sampler.sample(requests(prompts(6), 4), decoding=decoding):
        assert one.logprob == pytest.approx(reference.logprob(one), abs=backend.logprob_error)


def test_greedy_tokens_are_the_likeliest(
    greedy: dict[tuple[str, int], Completion], backend: Backend, reference: Reference
) -> None:
    agree = total = 0
    for one in greedy.values():
        likeliest_T = reference.logprobs_T_V(one).argmax(-1).tolist()
        agree += sum(token == best for token, best in zip(one.token_ids, likeliest_T, strict=True))
        total += len(one.token_ids)
    assert agree / total >= backend.greedy_agreement


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(sampler: Sampler, backend: Backend, reference: Reference) -> None:
    for decoding in (replace(PLAIN, top_k=1), replace(PLAIN, top_p=1e-6)):
        for one in sampler.sample(requests(prompts(4), 2), decoding=decoding):
            likeliest_T = reference.logprobs_T_V(one).argmax(-1).tolist()
            agree = sum(token == best for token, best in zip(one.token_ids, likeliest_T, strict=True))
            assert agree / len(one.token_ids) >= backend.greedy_agreement


def test_first_tokens_follow_the_model_and_not_the_defaults_of_the_checkpoint(
    sampler: Sampler, reference: Reference
) -> None:
    prompt = "The cat sat on"
    completions = list(sampler.sample(requests([prompt], 600), decoding=replace(PLAIN, max_tokens=1)))
    probability_V = reference.first_token_probabilities(prompt)
    counts = Counter(one.token_ids[0] for one in completions)
    likely = [int(token) for token in probability_V.argsort(descending=True)[:8]]
    expected = [600 * probability_V[token].item() for token in likely]
    assert min(expected) > 5  # for the chi-square test to hold
    seen = [counts[token] for token in likely]
    rest = (600 - sum(seen), 600 - sum(expected))
    assert chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-4


def test_samples_differ_by_their_seed_alone(drawn: list[Completion]) -> None:
    texts = Counter(one.request.problem_id for one in {(o.request.problem_id, o.text): o for o in drawn}.values())
    assert sum(count > 1 for count in texts.values()) > len(texts) / 2


def test_the_same_requests_give_the_same_completions_where_that_is_promised(
    sampler: Sampler, backend: Backend, drawn: list[Completion]
) -> None:
    if not backend.is_seeded:
        pytest.skip(f"{backend.name} does not promise it")
    again = keyed(list(sampler.sample(requests(prompts(12), 8), decoding=PLAIN)))
    for key, one in keyed(drawn).items():
        assert again[key].token_ids == one.token_ids


def test_a_prompt_that_is_empty_or_too_long_is_refused_before_anything_is_drawn(sampler: Sampler) -> None:
    good = requests(prompts(1), 1)
    with pytest.raises(UserError, match="prompt of problem bad is empty"):
        sampler.sample([*good, Request("bad", 0, "", 1)], decoding=PLAIN)
    with pytest.raises(UserError, match=rf"prompt of problem bad has \d+ tokens.*80.*{LIMIT}"):
        sampler.sample([*good, Request("bad", 0, "Tom has 3 apples. " * 120, 1)], decoding=PLAIN)
    with pytest.raises(ValueError, match="stop string is empty"):
        sampler.sample(good, decoding=replace(PLAIN, stop=("",)))


def test_a_stream_that_is_dropped_half_way_leaves_nothing_behind(sampler: Sampler) -> None:
    stream = sampler.sample(requests(prompts(8), 8, seed=5), decoding=PLAIN)
    next(stream)
    stream.close()  # type: ignore[attr-defined] # streams are generators
    asked = requests(prompts(3), 2)
    completions = list(sampler.sample(asked, decoding=PLAIN))
    assert Counter(one.request for one in completions) == Counter(asked)


def test_a_batch_size_is_a_number_that_a_plan_can_record(sampler: Sampler) -> None:
    size = sampler.batch_size_for(40, PLAIN)
    assert isinstance(size, int)
    assert size >= 0  # 0: the engine batches by itself
    asked = requests(prompts(2), 2)
    assert len(list(sampler.sample(asked, decoding=PLAIN, batch_size=size))) == 4


class Pool:
    def verify_iter(self, pairs: Iterator[tuple[str, Any]]) -> Iterator[Verdict]:
        return verify_iter("math", pairs, workers=1)


def rolled_out(folder: Path, sampler: Sampler, decoding: Decoding) -> Ledger:
    """Draw two units of a plan into a ledger, as a run does."""
    ledger = Ledger(folder, is_writer=True)
    texts = dict(zip(("a", "b", "c"), prompts(3), strict=True))
    problems = {name: Problem(name, text, "5", "math") for name, text in texts.items()}
    asking = PlanSpec(1, "train", "policy", [decoding.id], [sampler.batch_size_for(40, decoding)])
    table = plan_table(list(problems), asking, counts=4, run_seed=3, unit_size=8)
    write_plan(folder / "plan.parquet", [table])
    ledger.record_decoding(decoding)
    jobs = jobs_for(read_plan(folder / "plan.parquet"), problems, decoding, model_id="fingerprint")
    with Silent().sampling("sampling", 12) as watched:
        draw_jobs(jobs, sampler_of=lambda model: sampler, pool=Pool(), store=ledger, watched=watched)
    return ledger


def planned(folder: Path) -> list[PlannedRequest]:
    return [row for unit in read_plan(folder / "plan.parquet") for row in unit.requests()]


def test_the_ledger_holds_the_same_keys_and_columns_as_with_hf(
    sampler: Sampler, backend: Backend, model: Path, tmp_path: Path
) -> None:
    decoding = replace(PLAIN, backend=backend.name, backend_version=backend.version)
    by_hf = replace(PLAIN, backend="hf", backend_version="0")
    keys = "problem_id, split, round, sample_index, model, prompt_sha, hinted, leaks_hint"
    found = []
    with hf_backend().open(model) as other:
        for name, drawer, decoded in (("this", sampler, decoding), ("hf", other, by_hf)):
            con = rolled_out(tmp_path / name, drawer, decoded).connect()
            columns = con.sql("describe samples").fetchall() + con.sql("describe traces").fetchall()
            rows = con.sql(f"select {keys} from samples order by all").fetchall()
            decodings = con.sql("select * exclude (decode_id, backend, backend_version) from decodings").fetchall()
            assert con.sql("select distinct decode_id from samples").fetchall() == [(decoded.id,)]
            seeds = {(r.problem_id, r.sample_index, r.seed) for r in planned(tmp_path / name)}
            assert set(con.sql("select problem_id, sample_index, seed from samples").fetchall()) == seeds
            assert con.sql("select count(*), count(distinct sample_id) from traces").fetchall() == [(12, 12)]
            bad = "logprob is null or logprob > 0 or tokens != len(token_ids) or tokens = 0 or text is null"
            assert con.sql(f"select count(*) from samples where {bad}").fetchall() == [(0,)]
            found.append((columns, rows, decodings))
    assert found[0] == found[1]


def test_a_closed_sampler_draws_no_more_and_may_be_closed_again(backend: Backend, model: Path) -> None:
    with backend.open(model) as opened:
        opened.close()
        with pytest.raises(RuntimeError, match="closed"):
            list(opened.sample(requests(prompts(1), 1), decoding=PLAIN))
        opened.close()
