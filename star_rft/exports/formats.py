"""The columns of TRL, axolotl and LLaMA-Factory, for plain prompts and for chat templates.

TRL adds the tokens that begin and end a sequence, and axolotl adds them to preferences: their texts are without them.
`input_output` of axolotl and the template `empty` of LLaMA-Factory add nothing, so the texts hold these tokens, and the
model learns to stop. If a completion ended with another token than the tokenizer's end-of-sequence token, its text
holds that token in every layout. Every row names its end. Trainers ignore columns that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

import pyarrow as pa

from star_rft.data import Prompter
from star_rft.exports.rows import ExampleRow, PreferenceRow
from star_rft.exports.traces import Include
from star_rft.models.ends import Stops
from star_rft.models.tokens import bos_text
from star_rft.training.dataset import Row, completion_of
from star_rft.types import Split

Tool = Literal["trl", "axolotl", "llama-factory"]
Item = TypeVar("Item", ExampleRow, PreferenceRow)
Columns = Mapping[str, pa.DataType]

TEXT = pa.string()
MESSAGE = pa.struct([("role", TEXT), ("content", TEXT)])
MESSAGES = pa.list_(MESSAGE)
SEGMENTS = pa.list_(pa.struct([("label", pa.bool_()), ("text", TEXT)]))

# Columns besides those that a trainer reads.
IMITATED: Columns = {
    "id": TEXT,
    "problem_id": TEXT,
    "round": pa.int32(),
    "source": TEXT,
    "weight": pa.float64(),
    "end": TEXT,
}
COMPARED: Columns = {
    "problem_id": TEXT,
    "round": pa.int32(),
    "better_id": TEXT,
    "worse_id": TEXT,
    "better_score": pa.float64(),
    "worse_score": pa.float64(),
    "better_end": TEXT,
    "worse_end": TEXT,
}
IDS = pa.list_(pa.int32())
# The tokens of training, in the columns that TRL reads in place of the texts.
IMITATED_IDS: Columns = {"input_ids": IDS, "completion_mask": IDS}
COMPARED_IDS: Columns = {"prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS}

# What each column means, for the card.
WORDS = {
    "prompt": "what the model saw",
    "completion": "what it learns to write, without the end of the sequence",
    "conversations": "both, as one list of messages",
    "messages": "the exchange",
    "segments": "the prompt, then the completion; the loss falls on the completion only",
    "instruction": "what the model saw",
    "input": "empty",
    "output": "what it learns to write, with the token that ends it",
    "chosen": "the better completion",
    "rejected": "the worse completion",
    "id": "the sample's id; of a reference solution `reference-` or `anchor-` and the problem's id",
    "problem_id": "a hash of the problem's content",
    "round": "the round that trained on it",
    "source": "`trace`: sampled and selected; `reference`: the data's own solution; `anchor`: one of the warm start's",
    "weight": "its weight in the loss",
    "better_id": "the sample's id of the better one",
    "worse_id": "the sample's id of the worse one",
    "better_score": "the score of the better one",
    "worse_score": "the score of the worse one",
    "end": "the token that ends the completion; empty where it was cut off",
    "better_end": "the token that ends the better completion",
    "worse_end": "the token that ends the worse completion",
    "input_ids": "the tokens that were trained on, prompt and completion; TRL takes them in place of the texts",
    "completion_mask": "1 where the loss falls",
    "prompt_ids": "the tokens of the prompt; TRL takes the ids in place of the texts",
    "chosen_ids": "the tokens of the better completion with its end",
    "rejected_ids": "the tokens of the worse completion with its end",
}


@dataclass(frozen=True, slots=True)
class Layout(Generic[Item]):
    """The columns of a file, those that a trainer reads first, and how an item becomes its row."""

    columns: Columns
    row: Callable[[Item], dict[str, Any]]

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow's schema."""
        return pa.schema(list(self.columns.items()))


@dataclass(frozen=True, slots=True)
class Texts:
    """Turns rows into text with the run's tokenizer and prompts.

    `begin` is what the tokenizer puts before every text, `stops` what ended the samples.
    """

    prompter: Prompter
    begin: str
    stops: Stops

    def bare(self, prompt: str) -> str:
        """Return a prompt without `begin`, which the tokenizer of another trainer adds again."""
        return prompt.removeprefix(self.begin)

    def ids(self, row: Row) -> list[int]:
        """Return the tokens of a completion that were trained on, its end among them."""
        return list(completion_of(row, self.prompter, self.stops))

    def end(self, row: Row) -> str:
        """Return the text of the token that ends a completion; "" where it was cut off."""
        ids = self.ids(row)
        has_end = bool(ids) and ids[-1] in self.stops.ids
        return str(self.prompter.tokenizer.convert_ids_to_tokens(ids[-1])) if has_end else ""

    def ended(self, row: Row) -> str:
        """Return a completion with its end, for a trainer that adds none."""
        return row.text + self.end(row)

    def unended(self, row: Row) -> str:
        """Return a completion for a trainer that adds the tokenizer's end-of-sequence token itself."""
        end = self.end(row)
        return row.text if end == self.prompter.tokenizer.eos_token else row.text + end

    def question(self, row: Row) -> list[dict[str, str]]:
        """Return the prompt as messages of a chat."""
        return self.prompter.messages(row.problem.prompt)


def for_examples(
    tool: Tool, prompter: Prompter, *, stops: Stops | None = None, joined: bool = False, tokens: bool = False
) -> Layout[ExampleRow]:
    """Return the layout of supervised examples; with `tokens` also the ids that were trained on.

    `joined` adds the whole exchange as one list, `conversations`, to a chat's prompt and completion: for trainers that
    read no other.
    """
    texts = Texts(prompter, bos_text(prompter.tokenizer), prompter.stops_or_ends(stops))
    columns, make = _IMITATION[tool, prompter.is_chat]
    has_exchange = joined and prompter.is_chat

    def row(item: ExampleRow) -> dict[str, Any]:
        exchange = _exchange(texts, item, "conversations") if has_exchange else {}
        return make(texts, item) | exchange | _of_imitated(texts, item) | (_imitated_ids(texts, item) if tokens else {})

    more: Columns = {"conversations": MESSAGES} if has_exchange else {}
    return Layout({**columns, **more, **IMITATED, **(IMITATED_IDS if tokens else {})}, row)


def for_preferences(
    tool: Tool, prompter: Prompter, *, stops: Stops | None = None, tokens: bool = False
) -> Layout[PreferenceRow]:
    """Return the layout of preferences: a prompt, the better and the worse completion."""
    texts = Texts(prompter, bos_text(prompter.tokenizer), prompter.stops_or_ends(stops))
    columns, make = _COMPARISON[tool, prompter.is_chat]

    def row(item: PreferenceRow) -> dict[str, Any]:
        return make(texts, item) | _of_compared(texts, item) | (_compared_ids(texts, item) if tokens else {})

    return Layout({**columns, **COMPARED, **(COMPARED_IDS if tokens else {})}, row)


def _exchange(texts: Texts, item: ExampleRow, column: str = "messages") -> dict[str, Any]:
    return {column: [*texts.question(item.row), _said(item.row)]}


def _prompt_completion(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    return {"prompt": texts.bare(item.prompt), "completion": texts.unended(item.row)}


def _chat_prompt_completion(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    return {"prompt": texts.question(item.row), "completion": [_said(item.row)]}


def _segments(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    prompt = {"label": False, "text": item.prompt}
    return {"segments": [prompt, {"label": True, "text": texts.ended(item.row)}]}


def _alpaca(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    return {"instruction": item.prompt, "input": "", "output": texts.ended(item.row)}


def _preference(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    sides = texts.unended(item.chosen), texts.unended(item.rejected)
    return {"prompt": texts.bare(item.prompt), "chosen": sides[0], "rejected": sides[1]}


def _chat_preference(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    return {"prompt": texts.question(item.chosen), "chosen": [_said(item.chosen)], "rejected": [_said(item.rejected)]}


def _message_preference(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    return {"messages": texts.question(item.chosen), "chosen": _said(item.chosen), "rejected": _said(item.rejected)}


def _alpaca_preference(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    sides = texts.ended(item.chosen), texts.ended(item.rejected)
    return {"instruction": item.prompt, "input": "", "chosen": sides[0], "rejected": sides[1]}


# By trainer, and whether the run rendered its prompts by a chat template.
_IMITATION: dict[tuple[Tool, bool], tuple[Columns, Callable[[Texts, ExampleRow], dict[str, Any]]]] = {
    ("trl", False): ({"prompt": TEXT, "completion": TEXT}, _prompt_completion),
    ("trl", True): ({"prompt": MESSAGES, "completion": MESSAGES}, _chat_prompt_completion),
    ("axolotl", False): ({"segments": SEGMENTS}, _segments),
    ("axolotl", True): ({"messages": MESSAGES}, _exchange),
    ("llama-factory", False): ({"instruction": TEXT, "input": TEXT, "output": TEXT}, _alpaca),
    ("llama-factory", True): ({"messages": MESSAGES}, _exchange),
}
_TEXT_PAIR = {"chosen": TEXT, "rejected": TEXT}
_MESSAGE_PAIR = {"messages": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE}
_COMPARISON: dict[tuple[Tool, bool], tuple[Columns, Callable[[Texts, PreferenceRow], dict[str, Any]]]] = {
    ("trl", False): ({"prompt": TEXT, **_TEXT_PAIR}, _preference),
    ("trl", True): ({"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}, _chat_preference),
    ("axolotl", False): ({"prompt": TEXT, **_TEXT_PAIR}, _preference),
    ("axolotl", True): (_MESSAGE_PAIR, _message_preference),
    ("llama-factory", False): ({"instruction": TEXT, "input": TEXT, **_TEXT_PAIR}, _alpaca_preference),
    ("llama-factory", True): (_MESSAGE_PAIR, _message_preference),
}


def dataset_name(config: Mapping[str, Any], *, is_preference: bool) -> str:
    """Return the name that LLaMA-Factory knows a run's file by."""
    return f"{config['name']}_{'dpo' if is_preference else 'sft'}"


def dataset_info(name: str, file: str, *, is_chat: bool, is_preference: bool) -> dict[str, Any]:
    """Return the entry of a file in LLaMA-Factory's dataset_info.json."""
    columns = {"messages": "messages"} if is_chat else {"prompt": "instruction", "query": "input"}
    if is_preference:
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    elif not is_chat:
        columns |= {"response": "output"}
    entry: dict[str, Any] = {"file_name": file, "formatting": "sharegpt" if is_chat else "alpaca"}
    entry |= {"ranking": True} if is_preference else {}  # LLaMA-Factory's word for pairs
    entry |= {"columns": columns}
    if is_chat:
        roles = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
        entry |= {"tags": {"role_tag": "role", "content_tag": "content", **roles}}
    return {name: entry}


def _said(row: Row) -> dict[str, str]:
    return {"role": "assistant", "content": row.text}


def _of_imitated(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    row = item.row
    about = {"problem_id": row.problem.id, "round": item.round, "source": row.kind, "weight": row.weight}
    return {"id": _id(row), **about, "end": texts.end(row)}


def _imitated_ids(texts: Texts, item: ExampleRow) -> dict[str, Any]:
    prompt, completion = list(texts.prompter.prompt_ids(item.prompt)), texts.ids(item.row)
    return {"input_ids": prompt + completion, "completion_mask": [0] * len(prompt) + [1] * len(completion)}


def _compared_ids(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    prompt = list(texts.prompter.prompt_ids(item.prompt))
    return {"prompt_ids": prompt, "chosen_ids": texts.ids(item.chosen), "rejected_ids": texts.ids(item.rejected)}


def _of_compared(texts: Texts, item: PreferenceRow) -> dict[str, Any]:
    better, worse = item.scores
    sides = {"better_id": _id(item.chosen), "worse_id": _id(item.rejected)}
    return {
        "problem_id": item.chosen.problem.id,
        "round": item.round,
        **sides,
        "better_score": better,
        "worse_score": worse,
        "better_end": texts.end(item.chosen),
        "worse_end": texts.end(item.rejected),
    }


def _id(row: Row) -> str:
    """Return the sample's id; of a reference solution its kind and the problem's id."""
    return row.sample_id or f"{row.kind}-{row.problem.id}"


Format = Literal["sft", "dpo", "jsonl", "parquet", "hub-folder"]


FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class Job:
    """What to export. `pairs` is how many preferences a problem may have where the run made none itself."""

    format: Format
    rounds: Sequence[int]
    tool: Tool = "trl"
    include: Include = "selected"
    split: Split = "train"
    tokens: bool = False
    pairs: int = 1
    licence: str = "other"
    command: str = ""
