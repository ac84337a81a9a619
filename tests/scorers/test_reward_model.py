from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from star_rft.errors import RunFailure, UserError
from star_rft.models import ModelError
from star_rft.models.spec import ModelSpec
from star_rft.scorers.reward_model import RewardModel
from star_rft.types import Trace
from tests.scorers.conftest import TINY, save_bert, save_reward_model, save_tokenizer
from tests.scorers.traces import of_many_lengths, too_long, trace

CHAT = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"


@torch.inference_mode()
def one_at_a_time(folder: Path, texts: list[str], *, add_special_tokens: bool = True) -> list[float]:
    """What transformers gives for each text alone, without any padding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    rows = tokenizer(texts, add_special_tokens=add_special_tokens)["input_ids"]
    return [model(input_ids=torch.tensor([row])).logits[0, 0].item() for row in rows]


def joined(traces: list[Trace]) -> list[str]:
    return [f"{t.problem.prompt}\n{t.sample.text}" for t in traces]


@pytest.mark.parametrize("batch_tokens", [1, 200, 16_384])
def test_scores_are_those_of_one_sequence_alone_and_in_order(reward_folder: Path, batch_tokens: int) -> None:
    traces = of_many_lengths()
    expected = one_at_a_time(reward_folder, joined(traces))
    assert max(expected) - min(expected) > 0.1
    scores = list(RewardModel(reward_folder, batch_tokens=batch_tokens).score(traces))
    assert scores == pytest.approx(expected, abs=1e-5)


def test_padding_is_masked_for_a_model_that_sees_both_ways(tmp_path: Path) -> None:
    folder, traces = save_bert(tmp_path / "bert"), of_many_lengths()
    expected = one_at_a_time(folder, joined(traces))
    assert list(RewardModel(folder).score(traces)) == pytest.approx(expected, abs=1e-5)


def test_a_model_without_a_padding_token_gives_the_scores_of_one_sequence_alone(tmp_path: Path) -> None:
    folder, traces = save_reward_model(tmp_path / "bare", pad_token_id=None), of_many_lengths()
    expected = one_at_a_time(folder, joined(traces))
    assert list(RewardModel(folder).score(traces)) == pytest.approx(expected, abs=1e-5)


def test_the_models_own_chat_template_renders_the_conversation_with_special_tokens_once(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "chat", chat_template=CHAT)
    traces = [trace("2 + 2?", "4"), trace("{completion}?", "{prompt}")]
    texts = [f"<s><user>{t.problem.prompt}</user><assistant>{t.sample.text}</assistant>" for t in traces]
    expected = one_at_a_time(folder, texts, add_special_tokens=False)
    assert list(RewardModel(folder).score(traces)) == pytest.approx(expected, abs=1e-5)
    plain = one_at_a_time(folder, joined(traces))
    assert list(RewardModel(folder, chat=False).score(traces)) == pytest.approx(plain, abs=1e-5)
    assert plain != pytest.approx(expected, abs=1e-3)


def test_a_template_joins_what_has_no_chat_template_and_braces_in_a_trace_mean_nothing(reward_folder: Path) -> None:
    traces = [trace("Which {completion}?", "this {prompt}"), trace("2 + 2?", "4")]
    for template in ("Q: {prompt} A: {completion}", "A: {completion} Q: {prompt}"):
        model = RewardModel(reward_folder, template=template)
        texts = [
            " ".join(f"{slot}: {text}" for slot, text in parts)
            for parts in (
                sorted({"Q": t.problem.prompt, "A": t.sample.text}.items(), reverse=template.startswith("Q"))
                for t in traces
            )
        ]
        assert list(model.score(traces)) == pytest.approx(one_at_a_time(reward_folder, texts), abs=1e-5)


def test_what_is_longer_than_the_model_has_no_score_and_the_others_have_theirs(reward_folder: Path) -> None:
    traces = [trace("2 + 2?", "4"), too_long(), trace("2 + 3?", "5")]
    first, none, last = RewardModel(reward_folder).score(traces)
    assert none is None
    assert [first, last] == pytest.approx(one_at_a_time(reward_folder, joined([traces[0], traces[2]])), abs=1e-5)


def test_no_traces_give_no_scores(reward_folder: Path) -> None:
    assert list(RewardModel(reward_folder).score([])) == []


def test_a_model_of_several_outputs_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 outputs where a reward model has one.*LlamaForCausalLM"):
        RewardModel(TINY)
    folder = save_reward_model(tmp_path / "three", num_labels=3)
    with pytest.raises(ModelError, match="has 3 outputs"):
        RewardModel(folder)


def test_a_random_head_is_refused_though_transformers_only_warns(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = save_tokenizer(tmp_path / "headless", None)
    model = AutoModelForCausalLM.from_pretrained(TINY)
    model.config.num_labels = 1
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"headless is no reward model: its checkpoint lacks score\.weight"):
        list(RewardModel(folder).score([trace("2 + 2?", "4")]))


def test_a_score_that_is_no_number_is_a_failure_not_a_score(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "broken")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.score.weight.data.fill_(float("nan"))
    model.save_pretrained(folder)
    with pytest.raises(RunFailure, match="problem 2 \\+ 2\\? as nan"):
        list(RewardModel(folder).score([trace("2 + 2?", "4")]))


def test_settings_that_cannot_work_are_named(reward_folder: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        RewardModel(reward_folder, chat=True)
    with pytest.raises(ModelError, match="dtype 'int8' is not one of"):
        RewardModel(ModelSpec(reward_folder, dtype="int8"))
    with pytest.raises(UserError, match=r"must hold \{prompt\} and \{completion\}"):
        RewardModel(reward_folder, template="{prompt}")
    with pytest.raises(ModelError, match="no such model folder"):
        RewardModel("./absent")


def test_the_version_changes_with_the_weights_and_with_what_the_model_is_shown(
    reward_folder: Path, tmp_path: Path
) -> None:
    other = save_reward_model(tmp_path / "other", initializer_range=0.1)
    versions = {
        RewardModel(reward_folder).version,
        RewardModel(other).version,
        RewardModel(reward_folder, template="{prompt} {completion}").version,
    }
    assert len(versions) == 3
    assert RewardModel(reward_folder, batch_tokens=1).version in versions


def test_a_closed_model_scores_no_more(reward_folder: Path) -> None:
    model = RewardModel(reward_folder)
    list(model.score([trace("2 + 2?", "4")]))
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(model.score([trace("2 + 2?", "4")]))


def test_importing_the_scorers_loads_nothing_heavy() -> None:
    code = (
        "import sys, star_rft.scorers; print(sorted({'torch', 'transformers', 'httpx', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
