"""What is known of a model before it is loaded, and the sizes and prompts that follow from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import verifiers
from star_rft.errors import UserError
from star_rft.init.sizing import Device, ModelFacts, find_device, longest_prompt, look, sizes_for
from star_rft.init.template import prompting_for
from star_rft.init.verifier import Kind
from star_rft.models import ASSETS
from star_rft.types import Problem

TINY = look("tiny")


def cpu() -> Device:
    return Device("cpu", 16 * 2**30)


def gpu() -> Device:
    return Device("cuda", 24 * 2**30)


# What a model would write that was asked for each kind of answer, with a reference.
WRITTEN: dict[Kind, tuple[str, str, object]] = {
    "number": ("math", "2 + 2 = 4.\n#### 4", "4"),
    "latex": ("math", r"Half of it. \boxed{\frac{1}{2}}", r"\frac12"),
    "letter": ("choice", "Fish swim.\n#### B", "B"),
    "text": ("exact", "It is in France.\n#### Paris", "paris"),
    "program": ("code", "```python\ndef f(x):\n    return x + 1\n```", {"tests": "assert f(1) == 2"}),
    "json": ("json_schema", '```json\n{"a": 1}\n```', {"type": "object", "required": ["a"]}),
}


def problems(n: int, solution: str | None = None) -> list[Problem]:
    return [Problem(str(i), f"What is {i}?", "1", "math", solution) for i in range(n)]


def folder_of_tiny(tmp_path: Path, template: str | None = None) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(ASSETS / "tiny", folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **({"chat_template": template} if template else {})}))
    return folder


def test_a_folder_tells_chat_context_and_size(tmp_path: Path) -> None:
    plain = look(str(folder_of_tiny(tmp_path)))
    assert (plain.is_chat, plain.positions) == (False, 512)
    assert plain.parameters == pytest.approx(0.95e6, rel=0.05)
    (tmp_path / "chat").mkdir()
    assert look(str(folder_of_tiny(tmp_path / "chat", "{{ messages[0].content }}"))).is_chat is True
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert look(str(tmp_path / "model")).is_chat is True


def test_a_multimodal_folder_tells_the_context_of_its_text_part(tmp_path: Path) -> None:
    folder = folder_of_tiny(tmp_path)
    (folder / "config.json").write_text(json.dumps({"text_config": {"n_positions": 77, "dtype": "bfloat16"}}))
    assert look(str(folder)).positions == 77
    assert look(str(folder)).parameters == pytest.approx(0.95e6, rel=0.05)  # of two bytes each
    (folder / "config.json").write_text(json.dumps({"text_config": None, "model_type": "bloom"}))
    assert look(str(folder)).positions is None


def test_an_adapter_folder_tells_what_its_base_is(tmp_path: Path) -> None:
    base, adapter = folder_of_tiny(tmp_path), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../model"}))
    facts = look(str(adapter))
    assert (facts.name, facts.positions) == (str(adapter), 512)
    assert facts.tokenizer is not None
    assert facts.tokenizer.resolve() == base.resolve()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="names no base_model_name_or_path"):
        look(str(adapter))


@pytest.mark.parametrize(
    ("name", "is_chat", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", True, 0.5e9),
        ("meta-llama/Llama-3.1-8B", None, 8e9),
        ("google/gemma-3-1b-it", True, 1e9),
        ("HuggingFaceTB/SmolLM2-135M", None, 135e6),
        ("gpt2", None, None),
    ],
)
def test_a_hub_name_tells_what_a_name_can(
    name: str, is_chat: bool | None, parameters: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    facts = look(name)
    assert (facts.is_chat, facts.parameters, facts.tokenizer) == (is_chat, parameters, None)
    assert longest_prompt(facts, ["?"], template="{question}") is None


def test_a_hub_model_that_is_in_the_cache_tells_as_much_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--org--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    (kept / "snapshots").mkdir()
    folder_of_tiny(tmp_path).rename(kept / "snapshots" / "abc")
    facts = look("org/model")
    assert (facts.name, facts.is_chat, facts.positions) == ("org/model", False, 512)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "a/b/c", "what is this?", ""])
def test_what_is_no_model_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="model"):
        look(name)


def test_this_machine_has_some_device() -> None:
    assert find_device().memory > 2**30


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_a_prompt_asks_for_is_what_its_verifier_reads(kind: Kind) -> None:
    name, completion, reference = WRITTEN[kind]
    assert verifiers.verify(name, completion, reference).is_correct
    chat, base = (prompting_for(ModelFacts("m", is_chat, ""), kind) for is_chat in (True, False))
    for mark in ("####", r"\boxed", "```python", "```json"):
        assert (mark in completion) == (mark in chat.template) == (mark in base.template)
    assert chat.chat == "auto"
    assert base.chat is False
    assert base.template.endswith("Answer:")


def test_the_tiny_model_is_asked_as_it_was_pretrained() -> None:
    assert prompting_for(TINY, "number").template == "Question: {question}\nAnswer:"


def test_samples_fit_the_context_and_a_prompt_that_leaves_no_room_is_an_error() -> None:
    assert sizes_for(TINY, cpu, problems(10), 100).max_tokens == 160
    assert sizes_for(TINY, cpu, problems(10), 400).max_tokens == 112
    with pytest.raises(UserError, match="tiny takes 512 tokens, and the longest prompt alone has 460"):
        sizes_for(TINY, cpu, problems(10), 460)


def test_the_longest_prompt_is_counted_in_the_models_own_tokens() -> None:
    short = longest_prompt(TINY, ["Tom has 3 bags."], template="{question}")
    long = longest_prompt(TINY, ["Tom has 3 bags.", "Tom has 3 bags. " * 20], template="{question}")
    assert short is not None
    assert long is not None
    assert 15 * short < long < 25 * short


def test_gold_solutions_say_how_long_a_sample_may_be() -> None:
    model = ModelFacts("m", True, "", 1e8)
    assert sizes_for(model, gpu, problems(10, "x" * 1500), None).max_tokens == 768
    assert sizes_for(model, gpu, problems(10, "x"), None).max_tokens == 512
    assert sizes_for(model, cpu, problems(10, "x" * 1500), None).max_tokens == 320


def test_a_model_that_does_not_fit_is_trained_by_adapters() -> None:
    small, large = (ModelFacts("m", True, "", size) for size in (0.5e9, 8e9))
    assert not sizes_for(small, gpu, problems(10), None).uses_lora
    assert sizes_for(large, gpu, problems(10), None).uses_lora
    assert sizes_for(large, gpu, problems(10), None).lr > sizes_for(small, gpu, problems(10), None).lr


def test_a_cpu_gets_less_to_do_than_a_gpu() -> None:
    model = ModelFacts("m", True, "", 1e8)
    small, large = (sizes_for(model, device, problems(5_000), None) for device in (cpu, gpu))
    assert small.n < large.n
    assert (small.problems, large.problems) == (100, 4_000)
    assert sizes_for(model, cpu, problems(50), None).problems is None
