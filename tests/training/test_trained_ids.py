"""What is trained on is what was sampled, whichever token a model ends its turns with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from star_rft.build import open_run
from star_rft.config import load
from star_rft.data import Prompter
from star_rft.engines.hf.sampler import HFSampler
from star_rft.errors import UserError
from star_rft.loop import run
from star_rft.models import load_tokenizer
from star_rft.models.ends import ends_of
from star_rft.types import Completion, Decoding, Problem, Request
from tests.conventions import CLOSE, CONVENTIONS, OTHER, Convention, save_turn_model
from tests.jsonl import write_jsonl
from tests.small_models import tokenizer_of
from tests.tiers import fast_only

PROBLEM = Problem("1", "what is a?", "a", "exact", solution="a.")


def asked(folder: Path) -> Prompter:
    loaded = load_tokenizer(folder)
    return Prompter(loaded, ends=ends_of(folder, loaded))


def drawn(folder: Path, prompts: Prompter, **how: Any) -> list[Completion]:
    text = prompts.render(PROBLEM)
    requests = [Request("1", i, text, seed=i, prompt_ids=prompts.prompt_ids(text)) for i in range(64)]
    decoding = Decoding(temperature=1.0, max_tokens=8, **how)
    return list(HFSampler(folder).sample(requests, decoding=decoding))


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS.keys())
def test_what_ended_with_an_end_token_is_trained_on_exactly(convention: Convention, tmp_path: Path) -> None:
    folder = save_turn_model(tmp_path, convention)
    prompts = asked(folder)
    found = drawn(folder, prompts)
    stopped = [one for one in found if one.finish_reason == "stop"]
    assert {one.token_ids[-1] for one in stopped} == convention.ends
    for one in found:
        kept = prompts.completion_ids(one.text, one.token_ids, finish_reason=one.finish_reason)
        assert kept == one.token_ids
        assert not set(kept[:-1]) & convention.ends
    assert any(one.finish_reason == "length" for one in found)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS.keys())
def test_a_text_ends_with_the_end_of_the_template_alone(convention: Convention, tmp_path: Path) -> None:
    prompts = asked(save_turn_model(tmp_path, convention))
    text = prompts.tokenizer("a.", add_special_tokens=False)["input_ids"]
    for known in (prompts.target(PROBLEM), "a.<eos>", "a.<close>" if CLOSE in convention.ends else "a."):
        assert prompts.completion_ids(known) == (*text, convention.behind_text)
    assert prompts.completion_ids("a.", finish_reason="length") == tuple(text)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS.keys())
def test_what_ended_at_a_stop_string_is_trained_on_up_to_it(convention: Convention, tmp_path: Path) -> None:
    folder = save_turn_model(tmp_path, convention)
    prompts = asked(folder)
    decoding = Decoding(1.0, 24, stop=("a", "ef"))
    found = [one for one in drawn(folder, prompts, stop=("a", "ef")) if one.token_ids[-1] not in convention.ends]
    stopped = [one for one in found if one.finish_reason == "stop"]
    assert stopped
    for one in stopped:
        kept = prompts.completion_ids(one.text, one.token_ids, stops=prompts.stops(decoding))
        assert kept[-1] == convention.behind_text
        before = kept[:-1]
        assert before == one.token_ids[: len(before)]
        decoded = prompts.tokenizer.decode(list(before), skip_special_tokens=True)
        assert isinstance(decoded, str)
        assert decoded.rstrip() == one.text.rstrip()
        assert len(one.token_ids) - len(before) in (1, 2)


def test_a_stop_string_that_begins_within_a_token_leaves_the_judged_text() -> None:
    pieces = ["<eos>", "a", "b", "b.", "\n", ".\n"]
    made = tokenizer_of(pieces, unknown="a", eos_token="<eos>")
    made.decode = lambda ids, **_: "".join(pieces[i] for i in ids if i)  # type: ignore[method-assign]
    prompts = Prompter(made)
    stops = prompts.stops(Decoding(1.0, 9, stop=(".\n",)))
    assert prompts.completion_ids("ab", [1, 3, 4], stops=stops) == (1, 2, 0)
    assert prompts.completion_ids("ab", [1, 2, 5], stops=stops) == (1, 2, 0)


@pytest.mark.parametrize("stop", ["<other>", "<other>\n"])
def test_a_stop_string_that_is_a_special_token_stops_and_is_kept(stop: str, tmp_path: Path) -> None:
    folder = save_turn_model(tmp_path, CONVENTIONS["a base model"])
    prompts = asked(folder)
    for how in ({"stop": (stop,)}, {"stop_token_ids": (OTHER,)}):
        found = [one for one in drawn(folder, prompts, **how) if one.token_ids[-1] == OTHER]
        assert found
        for one in found:
            assert one.finish_reason == "stop"
            kept = prompts.completion_ids(one.text, one.token_ids, stops=prompts.stops(Decoding(1.0, 24, **how)))
            assert kept == one.token_ids


def test_a_special_token_within_a_stop_string_is_refused(tmp_path: Path) -> None:
    prompts = asked(save_turn_model(tmp_path, CONVENTIONS["a base model"]))
    with pytest.raises(UserError, match="holds the special token '<other>', which is in no decoded text"):
        prompts.stops(Decoding(1.0, 8, stop=("\n<other>",)))


def test_a_stop_id_that_the_tokenizer_lacks_is_refused(tmp_path: Path) -> None:
    prompts = asked(save_turn_model(tmp_path, CONVENTIONS["a base model"]))
    with pytest.raises(UserError, match=r"the tokenizer has no token 99: its ids are 0 to 35"):
        prompts.stops(Decoding(1.0, 8, stop_token_ids=(99,)))


@pytest.mark.parametrize(
    "name",
    fast_only(
        ["the template writes both ends", "a base model with a template whose end nothing lists"],
        "a base model with a template whose end nothing lists",
    ),
)
def test_a_round_trains_on_exactly_what_its_model_sampled(name: str, tmp_path: Path) -> None:
    convention = CONVENTIONS[name]
    config = load(
        {
            "name": "ends",
            "run_dir": str(tmp_path / "run"),
            "rounds": 1,
            "model": {"name": str(save_turn_model(tmp_path / "model", convention))},
            "data": {split: {"source": _questions(tmp_path, split)} for split in ("train", "dev")},
            "verifier": {"name": "regex"},
            "sample": {"n": 32, "max_tokens": 8, "stop": ["zz"]},
            "select": {"rules": ["correct"], "reference_solutions": 1.0},
            "train": {"lr": 1e-4},
            "eval": {"n": 1, "k": [1], "max_tokens": 4, "kl_traces": 4},
        }
    )
    with open_run(config) as stages:
        assert [report.round for report in run(stages, rounds=1)] == [0, 1]
        trained = {(example.prompt_ids, example.completion_ids) for example in stages.training.examples(1)}
        rows = stages.context.ledger.connect().sql(
            "select t.prompt, t.token_ids from selection join traces t using (sample_id) where is_selected"
        )
        prompts = stages.training.prompter
        sampled = {(prompts.prompt_ids(prompts.text(prompt)), tuple(ids)) for prompt, ids in rows.fetchall()}
    listed = GenerationConfig.from_pretrained(tmp_path / "run/rounds/001/checkpoint").eos_token_id
    assert set(listed) == convention.ends
    reference = (*prompts.tokenizer("a.", add_special_tokens=False)["input_ids"], convention.behind_text)
    assert len(sampled) > 4
    assert trained - sampled == {(ids, reference) for ids, _ in sampled}
    assert sampled <= trained


def _questions(folder: Path, split: str) -> str:
    rows = [{"question": f"what is {split} {letter}?", "answer": "(?s).*", "solution": "a."} for letter in "abc"]
    return str(write_jsonl(folder / f"{split}.jsonl", rows))
