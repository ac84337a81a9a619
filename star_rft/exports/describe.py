"""The description of an export in its card: rows, columns, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from star_rft.config.training import name_of
from star_rft.exports import card_data, loading_snippets
from star_rft.exports.card_data import CardConfig
from star_rft.exports.card_text import code, counted
from star_rft.exports.cards import ExportCard, File
from star_rft.exports.formats import Layout
from star_rft.exports.loading_snippets import LoadingInfo
from star_rft.exports.rows import Tally
from star_rft.exports.traces import COLUMNS, TOKENS

if TYPE_CHECKING:
    from star_rft.exports.formats import Job

_WORDS = {
    "prompt": "what the model saw",
    "completion": "what it is to write, up to where it ends by itself",
    "conversations": "both, as one list of messages",
    "messages": "the exchange",
    "segments": "the prompt, then the completion, on which alone the loss falls",
    "instruction": "what the model saw",
    "input": "empty",
    "output": "what it is to write, with the token that ends it",
    "chosen": "the better completion",
    "rejected": "the worse one",
    "id": "the sample's id; of a reference solution `reference-` or `anchor-` and the problem's id",
    "problem_id": "a hash of the problem's content",
    "round": "the round that trained on it",
    "source": "`trace`: sampled and selected; `reference`: the data's own solution; `anchor`: one of the warm start's",
    "weight": "its weight in the loss",
    "better_id": "the sample's id of the better one",
    "worse_id": "and of the worse one",
    "better_score": "the score of the better one",
    "worse_score": "and of the worse one",
    "end": "the token that ends the completion; empty where it was cut off",
    "better_end": "the token that ends the better completion",
    "worse_end": "and the worse one",
    "input_ids": "the tokens that were trained on, prompt and completion; TRL takes them in place of the texts",
    "completion_mask": "1 where the loss falls",
    "prompt_ids": "the tokens of the prompt; TRL takes the ids in place of the texts",
    "chosen_ids": "those of the better completion, its end among them",
    "rejected_ids": "and of the worse one",
}


def of_examples(told: CardConfig, job: Job, tally: Tally, file: File) -> ExportCard:
    return ExportCard(
        rounds=job.rounds,
        noun="Training examples",
        lead=_lead_of_examples(told, tally),
        files=[file],
        snippets=loading_snippets.for_tool(job.tool, _loading(told, is_preference=False)),
        elsewhere=_elsewhere(job),
        command=_command(told, job),
        licence=job.licence,
    )


def of_preferences(told: CardConfig, job: Job, tally: Tally, file: File) -> ExportCard:
    return ExportCard(
        rounds=job.rounds,
        noun="Preferences",
        lead=_lead_of_preferences(told, job, tally),
        files=[file],
        snippets=loading_snippets.for_tool(job.tool, _loading(told, is_preference=True)),
        elsewhere=_elsewhere(job),
        command=_command(told, job),
        licence=job.licence,
    )


def of_traces(told: CardConfig, job: Job, file: File) -> ExportCard:
    return ExportCard(
        rounds=job.rounds,
        noun="Traces" if job.split == "train" else f"Held-out traces ({job.split})",
        lead=_lead_of_traces(job, file.rows),
        files=[file],
        snippets=loading_snippets.for_traces(file.name),
        elsewhere="",
        command=_command(told, job),
        licence=job.licence,
    )


def of_hub_folder(told: CardConfig, job: Job, tally: Tally, files: Sequence[File]) -> ExportCard:
    configs = [file.config for file in files]
    leads = [_lead_of_examples(told, tally)] if "sft" in configs else []
    leads += [_lead_of_preferences(told, job, tally)] if "dpo" in configs else []
    snippets = [
        snippet
        for config in configs
        if config != "traces"
        for snippet in loading_snippets.for_hub(_loading(told, is_preference=config == "dpo"), config=str(config))
    ]
    return ExportCard(
        rounds=job.rounds,
        noun="Training data",
        lead="\n\n".join([*leads, _lead_of_traces(job, files[-1].rows)]),
        files=files,
        snippets=snippets,
        elsewhere="",
        command=_command(told, job),
        licence=job.licence,
    )


def examples_file(name: str, rows: int, layout: Layout[Any], *, is_hub: bool) -> File:
    return File(name, rows, "one row an example.", _columns(layout), "sft" if is_hub else None)


def preferences_file(name: str, rows: int, layout: Layout[Any], *, is_hub: bool) -> File:
    return File(name, rows, "one row a pair.", _columns(layout), "dpo" if is_hub else None)


def traces_file(name: str, rows: int, *, tokens: bool, is_hub: bool) -> File:
    columns = COLUMNS | (TOKENS if tokens else {})
    return File(name, rows, "one row a trace.", columns, "traces" if is_hub else None)


def dataset_name(told: CardConfig, *, is_preference: bool) -> str:
    """Return the name that LLaMA-Factory knows a file by."""
    return f"{told.config['name']}_{'dpo' if is_preference else 'sft'}"


def _columns(layout: Layout[Any]) -> Mapping[str, str]:
    return {name: _WORDS[name] for name in layout.columns}


def _lead_of_examples(told: CardConfig, tally: Tally) -> str:
    kinds = {"trace": "selected trace", "reference": "reference solution", "anchor": "example of the warm start"}
    made_of = [counted(tally.kinds[kind], said) for kind, said in kinds.items() if tally.kinds[kind]]
    total = sum(tally.kinds[kind] for kind in kinds)
    problems = counted(len(tally.problems), "problem")
    lines = [
        f"**What supervised training saw**: {counted(total, 'example')} of {problems} ({', '.join(made_of)}), with"
        f" {tally.prompt_tokens:,} tokens of prompts and {tally.completion_tokens:,} of completions"
        " in the model's own tokens.",
        "It was trained on the very tokens that were sampled; as text they may be cut into tokens otherwise"
        " (`--tokens` adds the ids). `end` names the token that ends each completion.",
    ]
    if tally.too_long:
        most = told.config["train"]["max_tokens"]
        longer = counted(tally.too_long, "example")
        lines.append(f"Without {longer} of more than {most:,} tokens, which training left out as well.")
    if tally.is_weighted:
        how = told.config["train"]["weighting"]
        lines.append(f"The examples were weighted ({how}): `weight`, which most trainers do not read.")
    return " ".join(lines)


def _lead_of_preferences(told: CardConfig, job: Job, tally: Tally) -> str:
    section, pairs = told.config["preference"], counted(tally.kinds["pair"], "pair")
    if section:
        made = {"verifier": "A verifier", "policy": "The policy"}[section["makes"]]
        how = f"{made} was trained on them by {name_of(section['objective']).upper()}"
        how += (
            ", on whole lists, of which these are all pairs of unequal score."
            if name_of(section["objective"]) == "rrhf"
            else "."
        )
    else:
        how = (
            "The run itself compared nothing: traces that it trained on were set against incorrect ones of the same"
            f" problem that ended by themselves (the rule `pairs`), at most {counted(job.pairs, 'pair')} a problem."
        )
    more = (
        f" {tally.too_long:,} completions were too long for the training, and are left out." if tally.too_long else ""
    )
    return f"**Preferences**: {pairs} of a better and a worse completion of one problem. {how}{more}"


def _lead_of_traces(job: Job, rows: int) -> str:
    if job.split != "train":
        return f"**Traces**: {rows:,} samples of {code(job.split)} that evaluation drew. Do not train on them."
    which = {
        "selected": "those that it trained on",
        "correct": "the correct ones of those that it could have trained on",
        "all": "all that it could have trained on, right and wrong, with why each was kept or dropped",
    }[job.include]
    return f"**Traces**: {rows:,}, {which}, with verdicts and everything that is known of them."


def _elsewhere(job: Job) -> str:
    others = [tool for tool in ("trl", "axolotl", "llama-factory") if tool != job.tool]
    return f"`--for {others[0]}` and `--for {others[1]}` of `star-rft export` write what those read."


def _loading(told: CardConfig, *, is_preference: bool) -> LoadingInfo:
    section = told.config["preference" if is_preference else "train"] or told.config["train"]
    return LoadingInfo(
        name=dataset_name(told, is_preference=is_preference),
        model=card_data.hub_name(told.config["model"]["name"]) or "path/to/the/base/model",
        max_tokens=section["max_tokens"],
        is_chat=told.is_chat,
        is_preference=is_preference,
    )


def _command(told: CardConfig, job: Job) -> str:
    run = f"runs/{told.config['name']}"
    return f"star-rft run config.yaml\nstar-rft export {run} {job.command}".rstrip()
