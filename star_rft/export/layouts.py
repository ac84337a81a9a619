"""How each trainer wants its rows: TRL, axolotl and LLaMA-Factory, for plain prompts and for chat templates.

TRL adds the tokens that begin and end a sequence, and so does axolotl to comparisons: their texts are without them.
`input_output` of axolotl and the template `empty` of LLaMA-Factory add nothing: there they stand in the text, so that
the model learns to stop. Keys that a trainer does not know it passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import pyarrow as pa

from star_rft.data import Prompter
from star_rft.models.encode import bos_text
from star_rft.export.rows import Compared, Imitated
from star_rft.training.corpus import Row

Tool = Literal["trl", "axolotl", "llama-factory"]
Item = TypeVar("Item", Imitated, Compared)
Columns = Mapping[str, pa.DataType]

TEXT = pa.string()
MESSAGE = pa.struct([("role", TEXT), ("content", TEXT)])
MESSAGES = pa.list_(MESSAGE)
SEGMENTS = pa.list_(pa.struct([("label", pa.bool_()), ("text", TEXT)]))

# What stands beside that which is trained on.
IMITATED: Columns = {"id": TEXT, "problem_id": TEXT, "round": pa.int32(), "source": TEXT, "weight": pa.float64()}
COMPARED: Columns = {
    "problem_id": TEXT,
    "round": pa.int32(),
    "better_id": TEXT,
    "worse_id": TEXT,
    "better_score": pa.float64(),
    "worse_score": pa.float64(),
}


@dataclass(frozen=True, slots=True)
class Layout(Generic[Item]):
    """The columns of a file, those that a trainer reads first, and how an item becomes its row."""

    columns: Columns
    row: Callable[[Item], dict[str, Any]]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(list(self.columns.items()))


@dataclass(frozen=True, slots=True)
class Texts:
    """What the run's tokenizer and prompts make of a row. `begin` is what the tokenizer puts before every text."""

    prompts: Prompter
    begin: str

    def bare(self, prompt: str) -> str:
        """Return a prompt without what the tokenizer of whoever loads it will put before it."""
        return prompt.removeprefix(self.begin)

    def ended(self, row: Row) -> str:
        return row.text + str(self.prompts.tokenizer.eos_token)

    def asked(self, row: Row) -> list[dict[str, str]]:
        return self.prompts.messages(row.problem.prompt)


def for_imitation(tool: Tool, prompts: Prompter, *, joined: bool = False) -> Layout[Imitated]:
    """Return the layout of supervised examples.

    `joined` adds the whole exchange as one list, `conversations`, to a chat's prompt and completion: for trainers that
    read no other.
    """
    texts = Texts(prompts, bos_text(prompts.tokenizer))
    columns, told = _IMITATION[tool, prompts.is_chat]
    if not (joined and prompts.is_chat):
        return Layout({**columns, **IMITATED}, lambda item: told(texts, item) | _of_imitated(item))

    def with_exchange(item: Imitated) -> dict[str, Any]:
        return told(texts, item) | _exchange(texts, item, "conversations") | _of_imitated(item)

    return Layout({**columns, "conversations": MESSAGES, **IMITATED}, with_exchange)


def for_comparison(tool: Tool, prompts: Prompter) -> Layout[Compared]:
    """Return the layout of preferences: a prompt, the better and the worse completion."""
    texts = Texts(prompts, bos_text(prompts.tokenizer))
    columns, told = _COMPARISON[tool, prompts.is_chat]
    return Layout({**columns, **COMPARED}, lambda item: told(texts, item) | _of_compared(item))


def _exchange(texts: Texts, item: Imitated, column: str = "messages") -> dict[str, Any]:
    return {column: [*texts.asked(item.row), _said(item.row)]}


def _prompt_completion(texts: Texts, item: Imitated) -> dict[str, Any]:
    return {"prompt": texts.bare(item.prompt), "completion": item.row.text}


def _chat_prompt_completion(texts: Texts, item: Imitated) -> dict[str, Any]:
    return {"prompt": texts.asked(item.row), "completion": [_said(item.row)]}


def _segments(texts: Texts, item: Imitated) -> dict[str, Any]:
    asked = {"label": False, "text": item.prompt}
    return {"segments": [asked, {"label": True, "text": texts.ended(item.row)}]}


def _alpaca(texts: Texts, item: Imitated) -> dict[str, Any]:
    return {"instruction": item.prompt, "input": "", "output": texts.ended(item.row)}


def _preference(texts: Texts, item: Compared) -> dict[str, Any]:
    return {"prompt": texts.bare(item.prompt), "chosen": item.chosen.text, "rejected": item.rejected.text}


def _chat_preference(texts: Texts, item: Compared) -> dict[str, Any]:
    return {"prompt": texts.asked(item.chosen), "chosen": [_said(item.chosen)], "rejected": [_said(item.rejected)]}


def _message_preference(texts: Texts, item: Compared) -> dict[str, Any]:
    return {"messages": texts.asked(item.chosen), "chosen": _said(item.chosen), "rejected": _said(item.rejected)}


def _alpaca_preference(texts: Texts, item: Compared) -> dict[str, Any]:
    sides = {"chosen": texts.ended(item.chosen), "rejected": texts.ended(item.rejected)}
    return {"instruction": item.prompt, "input": "", **sides}


# By trainer, and whether the run rendered its prompts by a chat template.
_IMITATION: dict[tuple[Tool, bool], tuple[Columns, Callable[[Texts, Imitated], dict[str, Any]]]] = {
    ("trl", False): ({"prompt": TEXT, "completion": TEXT}, _prompt_completion),
    ("trl", True): ({"prompt": MESSAGES, "completion": MESSAGES}, _chat_prompt_completion),
    ("axolotl", False): ({"segments": SEGMENTS}, _segments),
    ("axolotl", True): ({"messages": MESSAGES}, _exchange),
    ("llama-factory", False): ({"instruction": TEXT, "input": TEXT, "output": TEXT}, _alpaca),
    ("llama-factory", True): ({"messages": MESSAGES}, _exchange),
}
_TEXT_PAIR = {"chosen": TEXT, "rejected": TEXT}
_MESSAGE_PAIR = {"messages": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE}
_COMPARISON: dict[tuple[Tool, bool], tuple[Columns, Callable[[Texts, Compared], dict[str, Any]]]] = {
    ("trl", False): ({"prompt": TEXT, **_TEXT_PAIR}, _preference),
    ("trl", True): ({"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}, _chat_preference),
    ("axolotl", False): ({"prompt": TEXT, **_TEXT_PAIR}, _preference),
    ("axolotl", True): (_MESSAGE_PAIR, _message_preference),
    ("llama-factory", False): ({"instruction": TEXT, "input": TEXT, **_TEXT_PAIR}, _alpaca_preference),
    ("llama-factory", True): (_MESSAGE_PAIR, _message_preference),
}


def dataset_info(name: str, file: str, *, is_chat: bool, compares: bool) -> dict[str, Any]:
    """Return what LLaMA-Factory's dataset_info.json must say of a file."""
    columns = {"messages": "messages"} if is_chat else {"prompt": "instruction", "query": "input"}
    if compares:
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    elif not is_chat:
        columns |= {"response": "output"}
    entry: dict[str, Any] = {"file_name": file, "formatting": "sharegpt" if is_chat else "alpaca"}
    entry |= {"ranking": True} if compares else {}
    entry |= {"columns": columns}
    if is_chat:
        roles = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
        entry |= {"tags": {"role_tag": "role", "content_tag": "content", **roles}}
    return {name: entry}


def _said(row: Row) -> dict[str, str]:
    return {"role": "assistant", "content": row.text}


def _of_imitated(item: Imitated) -> dict[str, Any]:
    row = item.row
    about = {"problem_id": row.problem.id, "round": item.round, "source": row.kind, "weight": row.weight}
    return {"id": _id(row), **about}


def _of_compared(item: Compared) -> dict[str, Any]:
    better, worse = item.scores
    sides = {"better_id": _id(item.chosen), "worse_id": _id(item.rejected)}
    return {
        "problem_id": item.chosen.problem.id,
        "round": item.round,
        **sides,
        "better_score": better,
        "worse_score": worse,
    }


def _id(row: Row) -> str:
    """Return the sample's id, or one that says whose gold solution it is."""
    return row.sample_id or f"{row.kind}-{row.problem.id}"
