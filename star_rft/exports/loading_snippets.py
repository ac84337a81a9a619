"""Code that loads an exported file in TRL, axolotl, LLaMA-Factory, datasets, pandas or DuckDB."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from star_rft.exports.formats import Tool, dataset_info

HUB = "ORG/NAME"


@dataclass(frozen=True, slots=True)
class Snippet:
    """`said` is a sentence before the code."""

    title: str
    said: str
    language: str
    code: str


@dataclass(frozen=True, slots=True)
class LoadingInfo:
    """What snippets depend on: the file, the model that was trained, and the longest example that training took."""

    name: str
    model: str
    max_tokens: int
    is_chat: bool
    is_preference: bool

    @property
    def file(self) -> str:
        return "dpo.jsonl" if self.is_preference else "sft.jsonl"


def for_tool(tool: Tool, about: LoadingInfo) -> list[Snippet]:
    """Return how the trainer that a file was written for loads it."""
    if tool == "trl":
        return [_trl(about, f'load_dataset("json", data_files="{about.file}", split="train")')]
    return [_axolotl(about) if tool == "axolotl" else _llama_factory(about)]


def for_hub(about: LoadingInfo, *, config: str) -> list[Snippet]:
    """Return how each trainer loads a config of a folder of the hub."""
    found = [
        _trl(about, f'load_dataset("{HUB}", "{config}", split="train")  # or the path of this folder'),
        _axolotl_of_hub(about, config),
        _llama_factory_of_hub(about, config),
    ]
    return [replace(snippet, title=f"{snippet.title}, {config}") for snippet in found]


def for_traces(file: str) -> list[Snippet]:
    """Return how three libraries read a file of traces."""
    kind = "parquet" if file.endswith(".parquet") else "json"
    lines = "" if kind == "parquet" else ", lines=True"
    load = f'from datasets import load_dataset\n\ntraces = load_dataset("{kind}", data_files="{file}", split="train")'
    query = f"select verifier, reason, count(*) from '{file}' group by all order by all"
    return [
        Snippet("datasets", "", "python", load),
        Snippet("pandas", "", "python", f'import pandas as pd\n\ntraces = pd.read_{kind}("{file}"{lines})'),
        Snippet("DuckDB", "", "python", f'import duckdb\n\nduckdb.sql("{query}").show()'),
    ]


def _trl(about: LoadingInfo, load: str) -> Snippet:
    kind = "DPO" if about.is_preference else "SFT"
    lines = [
        "from datasets import load_dataset",
        f"from trl import {kind}Config, {kind}Trainer",
        "",
        f"data = {load}",
        f'settings = {kind}Config(output_dir="out", max_length={about.max_tokens})  # without a GPU: use_cpu=True',
        f'trainer = {kind}Trainer("{about.model}", args=settings, train_dataset=data)',
        "trainer.train()",
    ]
    begun = "the end of the sequence is added by TRL" if not about.is_chat else "TRL applies the chat template"
    said = f"Prompt and {'the two completions' if about.is_preference else 'completion'} apart; {begun}."
    return Snippet("TRL", said, "python", "\n".join(lines))


def _axolotl(about: LoadingInfo) -> Snippet:
    where = {"path": about.file, "ds_type": "json"}
    more = ""
    kind: dict[str, Any]
    if about.is_preference and about.is_chat:
        kind = {"split": "train", "type": "chat_template.default", "field_messages": "messages"}
    elif about.is_preference:
        kind = {"split": "train", "type": _preference_type()}
    elif about.is_chat:
        kind = {"type": "chat_template", "roles_to_train": None, "train_on_eos": None}
        more = "With both left empty the loss falls on the last message alone."
    else:
        kind = {"type": "input_output"}
        more = "Its texts are taken as they are: the tokens that begin and end a sequence stand in them."
    return Snippet("axolotl", more, "yaml", _axolotl_config(about, where | kind))


def _axolotl_of_hub(about: LoadingInfo, config: str) -> Snippet:
    where = {"path": HUB, "name": config, "split": "train"}
    kind: dict[str, Any]
    if about.is_preference:
        chat = {"type": "chat_template.default", "field_messages": "prompt"}
        kind = chat if about.is_chat else {"type": _preference_type()}
    elif about.is_chat:
        kind = {"type": "chat_template", "field_messages": "conversations"}
        kind |= {"roles_to_train": None, "train_on_eos": None}
    else:
        formats = {"format": "{instruction}", "no_input_format": "{instruction}"}
        kind = {"type": {"field_instruction": "prompt", "field_output": "completion", **formats}}
    return Snippet("axolotl", "", "yaml", _axolotl_config(about, where | kind))


def _preference_type() -> dict[str, str]:
    fields = {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"}
    return fields | {"prompt_format": "{prompt}", "chosen_format": "{chosen}", "rejected_format": "{rejected}"}


def _axolotl_config(about: LoadingInfo, dataset: Mapping[str, Any]) -> str:
    config: dict[str, Any] = {"base_model": about.model}
    config |= {"rl": "dpo"} if about.is_preference else {}
    config |= {"datasets": [dict(dataset)]}
    config |= {} if about.is_preference else {"train_on_inputs": False}
    return _yaml(config | {"sequence_len": about.max_tokens})


def _llama_factory(about: LoadingInfo) -> Snippet:
    said = (
        "`dataset_info.json` stands beside the file. Name the template of your model instead, if it has one there."
        if about.is_chat
        else "`dataset_info.json` stands beside the file. The template `empty` adds nothing to the texts, in which the"
        " tokens that begin and end a sequence stand."
    )
    return Snippet("LLaMA-Factory", said, "yaml", _llama_factory_config(about, "."))


def _llama_factory_config(about: LoadingInfo, folder: str) -> str:
    config: dict[str, Any] = {"model_name_or_path": about.model, "stage": "dpo" if about.is_preference else "sft"}
    config |= {"do_train": True, "dataset_dir": folder, "dataset": about.name}
    config |= {"mask_history": True} if about.is_chat and not about.is_preference else {}
    config |= {} if about.is_chat else {"template": "empty"}
    return _yaml(config | {"cutoff_len": about.max_tokens, "output_dir": "out"})


def _llama_factory_of_hub(about: LoadingInfo, config: str) -> Snippet:
    if about.is_chat and not about.is_preference:
        info = dataset_info(about.name, "", is_chat=True, is_preference=False)[about.name]
        entry = {"hf_hub_url": HUB, "subset": config, **info, "columns": {"messages": "conversations"}}
        del entry["file_name"]
        text = json.dumps({about.name: entry}, indent=2)
        return Snippet("LLaMA-Factory", "An entry for its `dataset_info.json`:", "json", text)
    why = "Its preferences are no lists" if about.is_chat else "None of its templates takes a text as it is and ends it"
    said = f"{why}: make a file of its own layout, and name it in `dataset_info.json`."
    return Snippet("LLaMA-Factory", said, "python", _converted(about, config))


def _converted(about: LoadingInfo, config: str) -> str:
    """Return code that writes what LLaMA-Factory reads, for its template `empty` where there is no chat."""
    if about.is_chat:
        made = '{"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]}'
    elif about.is_preference:
        sides = '"chosen": row["chosen"] + END, "rejected": row["rejected"] + END'
        made = '{"instruction": row["prompt"], "input": "", ' + sides + "}"
    else:
        made = '{"instruction": row["prompt"], "input": "", "output": row["completion"] + END}'
    end = [] if about.is_chat else ['END = "..."  # the end-of-sequence token of your tokenizer']
    lines = [
        "from datasets import load_dataset",
        "",
        *end,
        f'data = load_dataset("{HUB}", "{config}", split="train")',
        "",
        "def as_read(row):",
        f"    return {made}",
        "",
        "made = data.map(as_read, remove_columns=data.column_names)",
        f'made.to_json("{about.file}")',
    ]
    return "\n".join(lines)


def _yaml(config: Mapping[str, Any]) -> str:
    """Dump a config; an empty value is written as nothing, as both trainers' examples do."""
    return yaml.safe_dump(dict(config), sort_keys=False).replace(": null\n", ":\n")
