"""Supervised examples: what goes out is what training saw, and each trainer gets it to the token."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from star_rft.build import open_run, settle
from star_rft.data import Prompter
from star_rft.exports.formats import for_examples
from star_rft.exports.rows import ExampleRow
from star_rft.models import ASSETS
from star_rft.training.dataset import Row
from star_rft.types import Problem
from tests.conventions import BETWEEN, CLOSE, EOS, turn_tokenizer
from tests.exports.calling import export, lines, snippet, trained_by_trl
from tests.small_models import letters_tokenizer


def test_what_goes_out_is_what_training_saw(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    rows = lines(export(run, tmp_path / "out", "--format", "sft", "--round", "2") / "sft.jsonl")
    with open_run(settle(str(run))) as stages:
        trained = stages.training.examples(2)
        tokenizer = stages.training.prompter.tokenizer
    note = json.loads((run / "rounds/002/checkpoint/fit.json").read_text())
    assert len(rows) == len(trained) == note["report"]["examples"] > 0
    for row, example in zip(rows, trained, strict=True):
        *ids, end = example.completion_ids
        assert end == tokenizer.eos_token_id
        assert row["prompt"] + row["completion"] == tokenizer.decode([*example.prompt_ids, *ids])
        assert row["prompt"] == tokenizer.decode(list(example.prompt_ids))


def test_every_kind_of_row_goes_out_as_it_is_trained_on(plain: Path, tmp_path: Path) -> None:
    out = export(plain, tmp_path / "out", "--format", "sft")
    rows = lines(out / "sft.jsonl")
    told = [(row["problem_id"], row["source"], row["completion"], row["weight"]) for row in rows]
    own, others, references, anchors = told[2:4], [told[0], told[1]], told[4:6], told[6:]
    assert others == [("foreign", "trace", " Three: 3.", 1.0), ("hinted", "trace", " It must be 2.", 1.0)]
    assert sorted(own) == [("own", "trace", " One: 1.", 0.5), ("own", "trace", " She has 1.", 0.5)]
    # Half of the five problems that no one flags, and a quarter of the whole from the warm start's.
    assert [source for _, source, *_ in (*references, *anchors)] == ["reference"] * 2 + ["anchor"] * 2
    assert "suspect" not in {problem for problem, *_ in told}
    # A hinted trace without its hint, and one that is too long not at all.
    assert {row["prompt"] for row in rows if row["problem_id"] == "hinted"} >= {
        "Question: How many apples has hinted?\nAnswer:"
    }
    assert "long" not in {row["problem_id"] for row in rows if row["source"] == "trace"}
    card = (out / "README.md").read_text()
    assert "8 examples of" in card
    assert "Without 1 example of more than 100 tokens" in card
    assert "weighted (per_problem)" in card
    assert len({row["id"] for row in rows}) == len(rows)
    # The tokens are this model's, also where another one sampled.
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    for column, ends, what in (("prompt", 0, "of prompts"), ("completion", 1, "of completions")):
        tokens = sum(len(tokenizer(row[column])["input_ids"]) + ends for row in rows)
        assert re.search(rf"\b{tokens}( tokens)? {what}", card)


@pytest.mark.full
def test_trl_trains_on_the_file_as_the_card_says(
    finished: Path, tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(finished, tmp_path / "out", "--format", "sft")
    assert "max_length=2048" in snippet(out)
    trainer, rows = trained_by_trl(out, monkeypatch), lines(out / "sft.jsonl")
    assert trainer.state.global_step == 1
    assert len(trainer.train_dataset) == len(rows)
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    for prepared, row in zip(trainer.train_dataset, rows, strict=True):
        learnt = [label for label in prepared["labels"] if label != -100]
        assert tokenizer.decode(learnt) == row["completion"] + tokenizer.eos_token
        assert tokenizer.decode(prepared["input_ids"]) == row["prompt"] + row["completion"] + tokenizer.eos_token


def test_trl_takes_a_chat_as_messages_and_renders_what_the_model_saw(chat: Path, tmp_path: Path) -> None:
    from trl.data_utils import apply_chat_template, is_conversational

    rows = lines(export(chat, tmp_path / "out", "--format", "sft") / "sft.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(chat.parent / "model")
    seen = Prompter(tokenizer, system="Count.", few_shot=[{"prompt": "1 + 1?", "completion": "2"}])
    for row in rows:
        assert is_conversational(row)
        assert [message["role"] for message in row["prompt"]] == ["system", "user", "assistant", "user"]
        rendered = apply_chat_template({key: row[key] for key in ("prompt", "completion")}, tokenizer)
        assert rendered["prompt"] == seen.text(row["prompt"][-1]["content"])
        assert rendered["completion"].startswith(row["completion"][0]["content"] + tokenizer.eos_token)


@pytest.mark.parametrize("tool", ["axolotl", "llama-factory"])
def test_trainers_that_add_no_tokens_find_them_in_the_text(plain: Path, tmp_path: Path, tool: str) -> None:
    """Both tokenise the pieces apart and add nothing, as star-rft does: so the ids are those of training."""
    out = export(plain, tmp_path / "out", "--format", "sft", "--for", tool)
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny")
    bare = lines(export(plain, tmp_path / "trl", "--format", "sft") / "sft.jsonl")
    for row, expected in zip(lines(out / "sft.jsonl"), bare, strict=True):
        prompt, completion = pieces(row)
        assert prompt == expected["prompt"]
        ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[:-1]) == expected["completion"]


def pieces(row: Mapping[str, Any]) -> tuple[str, str]:
    if "segments" in row:
        asked, said = row["segments"]
        assert (asked["label"], said["label"]) == (False, True)
        return asked["text"], said["text"]
    assert row["input"] == ""
    return row["instruction"], row["output"]


def test_a_beginning_that_a_tokenizer_adds_is_in_the_text_only_where_nobody_adds_it() -> None:
    prompts = Prompter(letters_tokenizer(), template="Q: {question}\nA:")
    problem = Problem("p", "What?", "2", "exact")
    item = ExampleRow(1, Row("trace", problem, " Two"), prompts.render(problem))
    assert for_examples("trl", prompts).row(item)["prompt"] == "Q: What?\nA:"
    assert for_examples("axolotl", prompts).row(item)["segments"][0]["text"] == "<s>Q: What?\nA:"
    assert for_examples("llama-factory", prompts).row(item)["instruction"] == "<s>Q: What?\nA:"
    trained = prompts.tokenizer(item.prompt, add_special_tokens=False)["input_ids"]
    assert prompts.tokenizer("Q: What?\nA:")["input_ids"] == trained


@pytest.mark.parametrize("run", ["plain", "chat"])
def test_llama_factory_finds_its_columns(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    out = export(request.getfixturevalue(run), tmp_path / "out", "--format", "sft", "--for", "llama-factory")
    ((name, entry),) = json.loads((out / "dataset_info.json").read_text()).items()
    rows = lines(out / entry["file_name"])
    assert set(entry["columns"].values()) <= set(rows[0])
    assert f"dataset: {name}\n" in (out / "README.md").read_text()
    if run == "chat":
        assert entry["formatting"] == "sharegpt"
        tags = entry["tags"]
        roles = [message[tags["role_tag"]] for message in rows[0]["messages"]]
        assert roles == [tags["system_tag"], *[tags["user_tag"], tags["assistant_tag"]] * 2]
    else:
        assert entry["columns"] == {"prompt": "instruction", "query": "input", "response": "output"}


@pytest.mark.parametrize(("run", "kind"), [("plain", "input_output"), ("chat", "chat_template")])
def test_axolotl_is_told_which_type_the_file_is(
    run: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import yaml

    out = export(request.getfixturevalue(run), tmp_path / "out", "--format", "sft", "--for", "axolotl")
    config = yaml.safe_load(snippet(out))
    (dataset,) = config["datasets"]
    assert (dataset["path"], dataset["type"]) == ("sft.jsonl", kind)
    assert config["train_on_inputs"] is False
    assert ("messages" if run == "chat" else "segments") in lines(out / "sft.jsonl")[0]


def test_all_rounds_go_out_one_after_the_other(finished: Path, tmp_path: Path) -> None:
    both = lines(export(finished, tmp_path / "both", "--format", "sft", "--all-rounds") / "sft.jsonl")
    each = [
        lines(export(finished, tmp_path / str(number), "--format", "sft", "--round", str(number)) / "sft.jsonl")
        for number in (1, 2)
    ]
    assert both == [*each[0], *each[1]]
    assert {row["round"] for row in each[1]} == {2}


def test_the_ids_are_those_of_training_and_trl_takes_them_in_place_of_the_texts(
    finished: Path, tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    out = export(run, tmp_path / "out", "--format", "sft", "--round", "2", "--tokens")
    rows = lines(out / "sft.jsonl")
    with open_run(settle(str(run))) as stages:
        trained = stages.training.examples(2)
    for row, example in zip(rows, trained, strict=True):
        assert row["input_ids"] == [*example.prompt_ids, *example.completion_ids]
        assert row["completion_mask"] == [0] * len(example.prompt_ids) + [1] * len(example.completion_ids)
        assert row["end"] == "</s>"
    trainer = trained_by_trl(out, monkeypatch)
    for prepared, example in zip(trainer.train_dataset, trained, strict=True):
        assert tuple(label for label in prepared["labels"] if label != -100) == example.completion_ids


@pytest.mark.parametrize(
    ("row", "end", "text"),
    [
        (Row("trace", Problem("p", "What?", "2", "exact"), "a", [6, CLOSE]), "<close>", "a<close>"),
        (Row("trace", Problem("p", "What?", "2", "exact"), "a", [6, EOS]), "<eos>", "a"),
        (Row("reference", Problem("p", "What?", "2", "exact"), "a"), "<eos>", "a"),
        (Row("trace", Problem("p", "What?", "2", "exact"), "a", [6], finish_reason="length"), "", "a"),
    ],
)
def test_a_completion_is_exported_with_the_token_that_ended_it(row: Row, end: str, text: str) -> None:
    """TRL adds the tokenizer's end-of-sequence token itself; another end stands in the text."""
    made = turn_tokenizer(BETWEEN)
    prompts = Prompter(made, chat=False)
    item = ExampleRow(1, row, prompts.render(row.problem))
    found = {tool: for_examples(tool, prompts).row(item) for tool in ("trl", "axolotl", "llama-factory")}
    assert {one["end"] for one in found.values()} == {end}
    assert found["trl"]["completion"] == text
    assert found["axolotl"]["segments"][1]["text"] == found["llama-factory"]["output"] == "a" + end
