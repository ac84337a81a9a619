"""Hints for unsolved problems (STaR, arXiv 2203.14465): prompts that hold the reference answer.

A hint is the answer alone, never the reference solution. Its samples are `hinted` in the ledger and trained on without
the hint. A trace that shows that it knew the answer is no reasoning, and is dropped (`leaks_hint`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from star_rft.data.prompts import QUESTION
from star_rft.errors import UserError
from star_rft.types import Problem
from verifiers.extraction.answer import reference_answer

if TYPE_CHECKING:
    import duckdb

    from star_rft.data import Prompter

ANSWER = "{answer}"
# Stands for the answer while the prompt is rendered: no text of a user's or a model's holds this character.
_PLACE = "\ue000"
# Phrases by which a trace refers to its hint instead of reasoning.
_ADMITS = re.compile(
    r"\b(?:the|my|this|a|your)\s+(?:given\s+|correct\s+|provided\s+)?hint\b|\bhint(?:ed)?\s+(?:says|is|was|that)\b"
    r"|\bas\s+(?:was\s+)?(?:given|stated|hinted|provided|indicated|marked)\b|\bmarked\s+(?:as\s+)?\(?correct"
    r"|\(CORRECT\)|\b(?:we|i)\s+(?:are|am|were|was)\s+(?:given|told)\s+(?:that\s+)?the\s+(?:correct\s+)?answer\b"
    r"|\b(?:given|known|provided|correct)\s+answer\s+(?:is|was)\b|\bsince\s+the\s+answer\s+is\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?](?:\s|\Z)|\n")
_CONCLUDES = re.compile(r"^\W*(?:the\s+)?(?:final\s+)?answer\s*(?:is|:|=)|^\W*####|^\W*\\boxed", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Hint:
    """How a hint is given. `template` takes the place of the prompt's, and holds {question} and {answer}.

    `mark` follows the right one of a multiple-choice prompt's choices, which are lines like "(B) text"; then the
    template needs no {answer}.
    """

    template: str
    mark: str | None = None

    def __post_init__(self) -> None:
        if self.template.count(QUESTION) != 1:
            raise UserError(f"rationalize.template {self.template!r} must hold {QUESTION} exactly once")
        if self.mark is None and ANSWER not in self.template:
            raise UserError(f"rationalize.template {self.template!r} has no {ANSWER}, and there is no mark: no hint")

    def renderer(self, prompter: Prompter) -> Callable[[Problem], str]:
        """Return what renders a problem with its hint, as `prompter` renders it without."""
        hinting = replace(prompter, template=self.template.replace(ANSWER, _PLACE))

        def render(problem: Problem) -> str:
            answer = answer_of(problem)
            question = problem.prompt if self.mark is None else marked(problem.prompt, answer, self.mark)
            return hinting.text(question).replace(_PLACE, answer)

        return render


def answer_of(problem: Problem) -> str:
    """Return the final answer alone, whatever else the reference holds; raise UserError where there is none."""
    reference: Any = problem.reference
    if isinstance(reference, str) and reference.lstrip().startswith("{"):
        try:
            reference = json.loads(reference)
        except json.JSONDecodeError:
            reference = problem.reference
    if isinstance(reference, Mapping):
        reference = reference.get("answer")
    if not isinstance(reference, str | int | float) or isinstance(reference, bool):
        raise UserError(f"rationalize: problem {problem.id} has no answer to hint at, only {problem.reference!r:.80}")
    return reference_answer(str(reference))


def marked(prompt: str, letter: str, mark: str) -> str:
    """Put the mark behind the choice of that letter; raise UserError where the prompt does not list it."""
    line = re.search(rf"^[ \t]*\(?{re.escape(letter)}[).:][^\n]*", prompt, re.MULTILINE)
    if line is None:
        raise UserError(f"rationalize.mark: no line of the prompt is the choice {letter!r}: {prompt!r:.120}")
    return prompt[: line.end()] + mark + prompt[line.end() :]


def leaks(text: str, problem: Problem) -> bool:
    """Whether a trace refers to its hint, or states the answer before it has derived anything.

    It does the latter where its first number is the answer, is not in the question and is followed by others, or where
    its first sentence is a conclusion and others follow.
    """
    if _ADMITS.search(text):
        return True
    first = _SENTENCE.split(text.strip(), maxsplit=1)[0]
    if _CONCLUDES.search(first):
        return len(text.strip()) > len(first) + 1  # a bare answer is no reasoning after the fact
    answer = answer_of(problem).replace(",", "")
    numbers = _NUMBER.finditer(text)
    earliest = next(numbers, None)
    if earliest is None or earliest.group().replace(",", "") != answer:
        return False
    asked = {number.replace(",", "") for number in _NUMBER.findall(problem.prompt)}
    return answer not in asked and next(numbers, None) is not None


def unsolved_problems(con: duckdb.DuckDBPyConnection, *, round_index: int) -> list[str]:
    """Return the train problems that no sample of this round solved without a hint, in a fixed order."""
    rows = con.execute(
        "select problem_id from traces where split = 'train' and round = ? and not hinted group by problem_id"
        " having not bool_or(status = 'correct') order by problem_id",
        [round_index],
    ).fetchall()
    return [str(problem_id) for (problem_id,) in rows]
