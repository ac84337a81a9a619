"""The text that a model sees for a problem, and the text that it should have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from star_rft.types import Problem, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION = "{question}"
SHOT_KEYS = {"prompt", "completion"}


class PromptError(UserError):
    """A prompt setting that cannot work with this tokenizer: the text names the key."""


@dataclass(frozen=True, slots=True)
class Prompter:
    """Renders problems for one tokenizer. Tokenise what it returns with `add_special_tokens=False`.

    The text holds the beginning-of-sequence token exactly once, if the tokenizer wants it: plain prompts get
    it here, chat templates write it themselves. What is trained on is the ids of the prompt followed by the
    ids of the completion, each tokenised alone, exactly as in sampling; the chat template is never applied to
    a finished exchange. So a template that renders one differently (thinking templates drop or add an empty
    thought) cannot move the border between prompt and completion.

    `template` is put around the question, in chat and plain prompts alike; braces in a problem mean nothing.
    `completion_prefix` starts every completion that is written here, in `target` and in plain few-shot
    examples: " " after a template that ends in "Answer:".
    """

    tokenizer: PreTrainedTokenizerBase
    template: str = QUESTION
    chat: Literal["auto"] | bool = "auto"
    system: str | None = None
    few_shot: Sequence[Mapping[str, str]] = ()
    completion_prefix: str = ""
    chat_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the chat template by name, such as `enable_thinking`."""

    def __post_init__(self) -> None:
        """Fail before any work if a setting does not fit this tokenizer; rendering one question shows it."""
        if self.template.count(QUESTION) != 1:
            raise PromptError(f"prompt.template must hold {QUESTION} exactly once: {self.template!r}")
        if self.chat not in ("auto", True, False):
            raise PromptError(f"prompt.chat is {self.chat!r}; valid are auto, true, false")
        if self.chat is True and not self.tokenizer.chat_template:
            raise PromptError("prompt.chat is true, but the tokenizer has no chat template; use auto or false")
        for index, shot in enumerate(self.few_shot):
            if set(shot) != SHOT_KEYS:
                raise PromptError(f"prompt.few_shot[{index}] has the keys {sorted(shot)}; it needs {sorted(SHOT_KEYS)}")
        self.text("1 + 1?")

    @property
    def is_chat(self) -> bool:
        return bool(self.tokenizer.chat_template) if self.chat == "auto" else self.chat

    def render(self, problem: Problem) -> str:
        """Return the prompt of a problem, up to where the model goes on."""
        return self.text(problem.prompt)

    def text(self, question: str) -> str:
        """Return the prompt for any question, such as one that a hint was added to."""
        return self._chat(question) if self.is_chat else self._plain(question)

    def target(self, problem: Problem) -> str:
        """Return the gold solution as a completion; the end-of-sequence token is the caller's to add."""
        if problem.solution is None:
            raise ValueError(f"problem {problem.id} has no gold solution to train on")
        return self.completion_prefix + problem.solution

    def _asked(self, question: str) -> str:
        # Not str.format, not chained replacing: whatever the question holds, it goes in as it is.
        before, after = self.template.split(QUESTION)
        return before + question + after

    def _plain(self, question: str) -> str:
        shots = [self._asked(s["prompt"]) + self.completion_prefix + s["completion"] for s in self.few_shot]
        text = "\n\n".join([*([self.system] if self.system else []), *shots, self._asked(question)])
        bos = bos_text(self.tokenizer)
        return text if text.startswith(bos) else bos + text

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return what the chat template renders for a question, whether or not this tokenizer has one."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for shot in self.few_shot:
            messages.append({"role": "user", "content": self._asked(shot["prompt"])})
            messages.append({"role": "assistant", "content": shot["completion"]})
        messages.append({"role": "user", "content": self._asked(question)})
        return messages

    def _chat(self, question: str) -> str:
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                self.messages(question), tokenize=False, add_generation_prompt=True, **self.chat_options
            )
        except TemplateError as error:
            raise PromptError(f"the tokenizer's chat template refuses this prompt: {error}") from None
        return str(text)


def bos_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token that this tokenizer puts before a plain text, or "" if it puts none."""
    bos = tokenizer.bos_token
    if bos is None:
        return ""
    ids = tokenizer("a")["input_ids"]
    return str(bos) if ids[:1] == [tokenizer.bos_token_id] else ""
