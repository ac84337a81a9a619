"""How a problem is put to a model, so that it answers in the form that the verifier reads."""

from __future__ import annotations

from dataclasses import dataclass

from star_rft.starting.answers import Kind
from star_rft.starting.model import TINY, ModelFacts

ASKED: dict[Kind, str] = {
    "number": "Reason step by step. End with #### and the number.",
    "latex": r"Reason step by step. Put the final answer into \boxed{}.",
    "letter": "Reason step by step. End with #### and the letter of the right choice.",
    "text": "Reason step by step. End with #### and the answer alone.",
    "program": "Write a Python program. Put all of it into one ```python block.",
    "json": "Answer with one ```json block.",
    "other": "",
}


@dataclass(frozen=True, slots=True)
class Prompting:
    """The keys of a config's section `prompt`, and where completions stop."""

    template: str
    chat: str | bool
    completion_prefix: str
    stop: tuple[str, ...]
    why: str


def prompting_for(model: ModelFacts, kind: Kind) -> Prompting:
    """A chat model gets the question and what to answer with; others a text that goes on with the answer."""
    asked = ASKED[kind]
    if model.name == TINY:
        return Prompting("Question: {question}\nAnswer:", False, " ", (), "the form that tiny was pretrained on")
    if model.is_chat is not False:
        chat = "auto: the model's chat template is put around this if it has one"
        return Prompting(f"{{question}}\n\n{asked}" if asked else "{question}", "auto", "", (), chat)
    instruction = f"{asked}\n" if asked else ""
    # A program begins on a line of its own, and holds blank lines and words such as "Question:".
    prefix, stop = ("\n", ()) if kind in ("program", "json") else (" ", ("\nQuestion:",))
    return Prompting(
        f"Question: {{question}}\n{instruction}Answer:", False, prefix, stop, "a text that a base model goes on with"
    )
