"""Renders problems to prompts, and gives the tokens of prompts and completions."""

from __future__ import annotations

import datetime
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from star_rft.errors import UserError
from star_rft.types import Decoding, FinishReason, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from star_rft.models.ends import Ends, Stops

QUESTION = "{question}"
SHOT_KEYS = {"prompt", "completion"}
# A Jinja macro that is put before a chat template, in place of transformers' function of this name, which reads the
# clock. It is a macro because newer versions of transformers pass data to templates, but no functions.
FIXED_CLOCK = """\
{%%- macro strftime_now(format) -%%}
{%%- set parts = %s -%%}
{%%- set pieces = format.replace("%%%%", "\\0").split("%%") -%%}
{%%- set written -%%}
{{- pieces[0] -}}
{%%- for piece in pieces[1:] -%%}
{%%- set size = 2 if piece[:2] in parts else 1 -%%}
{{- parts.get(piece[:size], "%%" ~ piece[:size]) ~ piece[size:] -}}
{%%- endfor -%%}
{%%- endset -%%}
{{- written.replace("\\0", "%%") -}}
{%%- endmacro %%}
"""


@lru_cache
def _fixed_clock(date: str) -> str:
    """Return the template text that defines `strftime_now` for one day, given as YYYY-MM-DD."""
    day = datetime.date.fromisoformat(date)
    directives = [flag + letter for flag in ("", *"-_0^#") for letter in string.ascii_letters]  # %d, %-d, ...
    return FIXED_CLOCK % json.dumps({directive: day.strftime(f"%{directive}") for directive in directives})


class PromptError(UserError):
    """A setting of the prompt that does not work with this tokenizer; the text names the key."""


@dataclass(frozen=True, slots=True)
class Prompter:
    """Renders problems for one tokenizer, and gives the token ids of prompts and completions.

    Prompt and completion are tokenised each alone, in sampling and in training, and what is trained on is the ids of
    the one followed by those of the other. The chat template is never applied to a finished exchange. So a template
    that renders one differently (templates with thinking drop or add an empty thought) cannot move the border between
    them.

    Attributes:
        tokenizer: The model's tokenizer.
        template: Text around the question, for chat and plain prompts; braces in a problem have no meaning.
        chat: Whether prompts go through the chat template; "auto": if the tokenizer has one.
        system: System prompt; in plain prompts it comes first.
        few_shot: Examples with the keys `prompt` and `completion`.
        completion_prefix: Begins every completion that is written and not sampled: reference solutions, and examples in
            plain prompts. It is " " after a template that ends in "Answer:".
        chat_options: Passed to the chat template by name, such as `enable_thinking`.
        ends: The model's end tokens; None: those that the tokenizer names.
        date: Day, as YYYY-MM-DD, for templates that ask for today's; None: the clock's.

    Raises:
        PromptError: A setting does not fit the tokenizer.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str = QUESTION
    chat: Literal["auto"] | bool = "auto"
    system: str | None = None
    few_shot: Sequence[Mapping[str, str]] = ()
    completion_prefix: str = ""
    chat_options: Mapping[str, Any] = field(default_factory=dict)
    ends: Ends | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        """Check the settings by rendering one question."""
        if self.template.count(QUESTION) != 1:
            raise PromptError(f"prompt.template must hold {QUESTION} exactly once: {self.template!r}")
        if self.chat not in ("auto", True, False):
            raise PromptError(f"prompt.chat is {self.chat!r}; valid are auto, true, false")
        if self.chat is True and not self.tokenizer.chat_template:
            raise PromptError("prompt.chat is true, but the tokenizer has no chat template; use auto or false")
        for index, shot in enumerate(self.few_shot):
            if set(shot) != SHOT_KEYS:
                raise PromptError(f"prompt.few_shot[{index}] has the keys {sorted(shot)}; it needs {sorted(SHOT_KEYS)}")
        self._check_chat_options()
        self._check_constant_parts(self.text("1 + 1?"))
        if self.ends is None:
            from star_rft.models.ends import ends_by

            object.__setattr__(self, "ends", ends_by(self.tokenizer, chat_options=self.chat_options))

    @property
    def is_chat(self) -> bool:
        """Return whether prompts go through the chat template."""
        return bool(self.tokenizer.chat_template) if self.chat == "auto" else self.chat

    @property
    def end_tokens(self) -> Ends:
        """Return the model's end tokens."""
        assert self.ends is not None  # set in __post_init__
        return self.ends

    def render(self, problem: Problem) -> str:
        """Return the prompt of a problem, up to where the completion begins."""
        return self.text(problem.prompt)

    def text(self, question: str) -> str:
        """Return the prompt of any question, such as one with a hint."""
        return self._chat(question) if self.is_chat else self._plain(question)

    def prompt_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a prompt that `render` or `text` has returned.

        A chat prompt is tokenised without further special tokens, as the template has written them; a plain one as
        `tokenizer(text)` does it.
        """
        from star_rft.models.tokens import plain_prompt_ids, text_ids

        return text_ids(self.tokenizer, text) if self.is_chat else plain_prompt_ids(self.tokenizer, text)

    def stops(self, decoding: Decoding) -> Stops:
        """Return the tokens and strings that end the completions of a decoding."""
        from star_rft.models.ends import stops_of

        stop, more = decoding.stop, decoding.stop_token_ids
        return stops_of(self.tokenizer, self.end_tokens, stop=stop, stop_token_ids=more)

    def stops_or_ends(self, stops: Stops | None) -> Stops:
        """Return `stops`; the model's own end tokens for None."""
        from star_rft.models.ends import Stops

        return Stops(self.end_tokens.ids, ()) if stops is None else stops

    def completion_ids(
        self,
        text: str,
        sampled: Sequence[int] | None = None,
        *,
        finish_reason: FinishReason = "stop",
        stops: Stops | None = None,
    ) -> tuple[int, ...]:
        """Return the token ids of a completion as they are trained on, scored and counted.

        Args:
            text: The completion.
            sampled: The ids that this model drew; None: only the text is known.
            finish_reason: `length` where it was cut off: it gets no end token.
            stops: What ended it; None: the model's own end tokens.
        """
        from star_rft.models.tokens import continuation_ids, ended_text_ids, sampled_completion_ids

        ends = self.end_tokens
        if sampled:
            known = self.stops_or_ends(stops)
            return sampled_completion_ids(
                self.tokenizer, sampled, text, finish_reason, ends, stops=known, is_chat=self.is_chat
            )
        if finish_reason == "length":
            return continuation_ids(self.tokenizer, text)
        return ended_text_ids(self.tokenizer, text, ends, is_chat=self.is_chat)

    def target(self, problem: Problem) -> str:
        """Return the reference solution as a completion, without an end token; ValueError without a solution."""
        if problem.solution is None:
            raise ValueError(f"problem {problem.id} has no reference solution to train on")
        return self.completion_prefix + problem.solution

    def _asked(self, question: str) -> str:
        # Without str.format, as the question may hold braces.
        before, after = self.template.split(QUESTION)
        return before + question + after

    def _plain(self, question: str) -> str:
        from star_rft.models.tokens import bos_text

        shots = [self._asked(s["prompt"]) + self.completion_prefix + s["completion"] for s in self.few_shot]
        text = "\n\n".join([*([self.system] if self.system else []), *shots, self._asked(question)])
        bos = bos_text(self.tokenizer)
        return text if text.startswith(bos) else bos + text

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the messages of a question, as a chat template renders them, also where this tokenizer has none."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for shot in self.few_shot:
            messages.append({"role": "user", "content": self._asked(shot["prompt"])})
            messages.append({"role": "assistant", "content": shot["completion"]})
        messages.append({"role": "user", "content": self._asked(question)})
        return messages

    def _chat(self, question: str) -> str:
        messages = self.messages(question)
        asked = self._asked(question).strip()
        # The templates of some multimodal models render only content that is a list of parts.
        in_parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        refusals = list[PromptError]()
        for form in (messages, in_parts):
            try:
                text = self._applied(form)
            except PromptError as error:
                refusals.append(error)
                continue
            # A template for text renders such a list as Python code, which is not the question.
            if asked in text and "'type': 'text'" not in text:
                return text
        if refusals:
            raise refusals[0]
        raise PromptError(
            f"the chat template does not show the whole question {asked[:80]!r}: set prompt.chat=false, or give the"
            " model another chat template"
        )

    def _applied(self, messages: Sequence[Mapping[str, Any]]) -> str:
        from jinja2 import TemplateError

        options = {"tokenize": False, "add_generation_prompt": True, **self._clock(), **self.chat_options}
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), **options))  # type: ignore[arg-type]
        except (TemplateError, TypeError) as error:
            raise PromptError(f"the tokenizer's chat template refuses this prompt: {error}") from None

    def _clock(self) -> dict[str, Any]:
        """Return the chat template with a fixed date, where it asks for one: prompts are the same on every day."""
        if self.date is None or "strftime_now" not in str(self.tokenizer.chat_template):
            return {}
        return {"chat_template": _fixed_clock(self.date) + self.tokenizer.get_chat_template()}

    def _check_chat_options(self) -> None:
        """Raise PromptError for an option that the chat template does not read, as it would have no effect."""
        if self.chat_options and not self.is_chat:
            raise PromptError("prompt.chat_options are for a chat template, and prompts here are plain text")
        source = str(self.tokenizer.chat_template)
        for name in self.chat_options:
            if not re.search(rf"\b{re.escape(name)}\b", source):
                asked = sorted(set(re.findall(r"\b(\w+) is (?:not )?defined", source)))
                raise PromptError(
                    f"prompt.chat_options: the chat template does not read {name!r}; it asks for"
                    f" {', '.join(asked) or 'no options'}"
                )

    def _check_constant_parts(self, text: str) -> None:
        """Raise PromptError for a system prompt or an example that the chat template does not show."""
        parts = [("prompt.system", self.system or "")]
        for index, shot in enumerate(self.few_shot):
            parts += [(f"prompt.few_shot[{index}].{key}", shot[key]) for key in sorted(SHOT_KEYS)]
        for key, part in parts:
            if part.strip() not in text:
                raise PromptError(
                    f"{key}: the chat template does not show it whole; leave it out, or set prompt.chat=false"
                )
